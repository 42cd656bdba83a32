import { MAX_REGISTRY_AUTH, REGISTRY_AUTH_HEADER, registryAuthSchema } from '@strata/api'
import { StrataError } from '@strata/base'
import type { PullCredentials } from '@strata/queue'

/**
 * Who asks the registry, from docker's header. No message quotes a byte of it.
 * @throws StrataError `bad_request`
 */
export function credentialsIn(header: string | undefined): PullCredentials | undefined {
  if (header === undefined || header === '') return undefined
  if (header.length > MAX_REGISTRY_AUTH)
    throw new StrataError(
      'bad_request',
      `the header ${REGISTRY_AUTH_HEADER} has ${header.length} bytes; the limit is ${MAX_REGISTRY_AUTH}`,
    )
  const { username, password, identitytoken, registrytoken } = parse(header)
  // In the order of docker's engine: a token that was given for this use counts most.
  if (registrytoken) return { registryToken: registrytoken }
  if (identitytoken) return { identityToken: identitytoken }
  if (username && password !== undefined) return { username, password }
  return undefined
}

function parse(header: string) {
  try {
    return registryAuthSchema.parse(JSON.parse(Buffer.from(header, 'base64url').toString('utf8')))
  } catch {
    throw new StrataError(
      'bad_request',
      `the header ${REGISTRY_AUTH_HEADER} is not base64url of a JSON object with username and password, identitytoken or registrytoken`,
    )
  }
}
