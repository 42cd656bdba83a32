import { familiarReference } from '@strata/oci/reference'
import { InvalidArgumentError } from 'commander'
import type { Client } from './client.js'
import type { Context } from './context.js'
import { CliError } from './errors.js'
import { pull, pullReport, readName } from './pull.js'
import { note } from './terminal.js'

const POLICIES = ['always', 'missing', 'never'] as const
export type PullPolicy = (typeof POLICIES)[number]

export function parsePullPolicy(text: string): PullPolicy {
  const policy = POLICIES.find((one) => one === text)
  if (policy === undefined) throw new InvalidArgumentError('It must be one of always, missing or never.')
  return policy
}

export interface PullChoice {
  readonly pull: PullPolicy
  readonly quiet?: boolean
}

/** Does `launch` with the image, which is pulled as the user wants it, in docker's words. */
export async function withImage(
  client: Client,
  context: Context,
  image: string,
  { pull: policy, quiet = false }: PullChoice,
  launch: () => Promise<void>,
): Promise<void> {
  const pullIt = async (): Promise<void> => {
    const reference = readName(image)
    const pulled = await pull(client, context, reference, { quiet })
    if (!quiet && pulled) note(pullReport(reference, pulled))
  }
  if (policy === 'always') {
    if (isId(image)) throw new CliError(`--pull always needs a name: ${image} is an id, which no registry knows`)
    await pullIt()
    return launch()
  }
  try {
    return await launch()
  } catch (error) {
    const isMissing = error instanceof CliError && error.code === 'image_not_found'
    if (!isMissing || policy === 'never' || isId(image)) throw error
  }
  if (!quiet) note(`Unable to find image '${familiarReference(readName(image))}' locally`)
  await pullIt()
  return launch()
}

/**
 * What a user takes for the beginning of an id. Fewer digits may be a name (`cafe`), as they are to
 * docker; twelve are what lists show of an id.
 */
function isId(image: string): boolean {
  return /^(?:sha(?:256|512):[0-9a-f]+|[0-9a-f]{12,})$/.test(image)
}
