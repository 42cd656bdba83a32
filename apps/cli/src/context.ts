import { Client } from './client.js'
import { readEndpoint } from './endpoint.js'

/**
 * What every command gets. The client is made when asked for: `strata load --help` needs no valid
 * STRATA_HOST.
 */
export interface Context {
  readonly environment: NodeJS.ProcessEnv
  client(): Client
}

export function createContext(environment: NodeJS.ProcessEnv): Context {
  return { environment, client: () => new Client(readEndpoint(environment)) }
}
