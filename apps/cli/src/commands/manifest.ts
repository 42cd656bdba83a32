import type { Command } from 'commander'
import type { Client, Manifest } from '../client.js'
import type { Context } from '../context.js'
import { CliError, EXIT_NOT_RUN } from '../errors.js'
import { jsonOf } from '../format/template-values.js'
import { stdout } from '../output.js'
import { complain, printableText, printText } from '../terminal.js'

/**
 * docker's `manifest inspect`. To a file or a pipe it writes the bytes as they are, so that
 * `| sha256sum` is the digest; a terminal gets the same text without what a terminal obeys.
 */
export function manifestCommands(program: Command, context: Context): void {
  const manifest = program.command('manifest').description('manifests and indexes of images and artifacts')
  manifest
    .command('inspect')
    .description('write the manifest or index that a name means, as it was pushed')
    .argument('<name>', 'with a tag or a digest')
    .option('-v, --verbose', "with its descriptor, as docker has it; of an index each manifest's that is here")
    .action(async (name: string, { verbose }: { verbose?: boolean }) => {
      const client = context.client()
      const found = await client.manifest(name)
      if (verbose) await printDescribed(client, name, found)
      else if (process.stdout.isTTY) printText(found.bytes.toString())
      else stdout.write(found.bytes)
    })

  manifest.allowExcessArguments().action(() => {
    const [name] = manifest.args
    if (name === undefined) manifest.outputHelp()
    else
      throw new CliError(`'manifest ${name}' is not a strata command. See 'strata manifest --help'`, {
        exitCode: EXIT_NOT_RUN,
      })
  })
}

interface Descriptor {
  readonly digest: string
  readonly mediaType: string
  readonly size: number
  readonly platform?: unknown
}

/** An index that Strata takes leads to fewer. */
const MAX_MANIFESTS = 10_000

/**
 * What `docker manifest inspect -v` prints: an object, of an index one for each of its manifests.
 * Each is printed as it comes: all of them together may have gigabytes.
 */
async function printDescribed(client: Client, name: string, found: Manifest): Promise<void> {
  const { bytes, mediaType, digest } = found
  const { manifests } = parsed(name, found)
  if (!Array.isArray(manifests))
    return printText(jsonOf(oneOf(name, found, { mediaType, digest, size: bytes.length }), 4))
  if (manifests.length > MAX_MANIFESTS)
    throw new CliError(`${name} names ${manifests.length} manifests; the limit is ${MAX_MANIFESTS}`)
  let separator = '['
  for (const descriptor of manifests as Partial<Descriptor | null>[]) {
    const ref = `${name.split('@', 1)[0] ?? name}@${descriptor?.digest ?? ''}`
    try {
      const one = jsonOf(oneOf(ref, await client.manifest(ref), { ...descriptor }), 4)
      stdout.write(`${separator}\n    ${printableText(one).replaceAll('\n', '\n    ')}`)
      separator = ','
    } catch (error) {
      if (!(error instanceof CliError && error.code === 'manifest_not_found')) throw error
      complain(`${ref} is not here`)
    }
  }
  printText(separator === '[' ? '[]' : '\n]')
}

/** By the media type, docker's name for the document. */
const DOCUMENTS: Readonly<Record<string, string>> = {
  'application/vnd.docker.distribution.manifest.v2+json': 'SchemaV2Manifest',
  'application/vnd.oci.image.manifest.v1+json': 'OCIManifest',
}

function oneOf(name: string, found: Manifest, descriptor: Partial<Descriptor>): object {
  const { mediaType, digest, size, platform } = descriptor
  const document = DOCUMENTS[found.mediaType]
  return {
    Ref: name,
    Descriptor: { mediaType, digest, size, platform },
    Raw: found.bytes.toString('base64'),
    ...(document !== undefined && { [document]: parsed(name, found) }),
  }
}

function parsed(name: string, { bytes }: Manifest): { readonly manifests?: unknown } {
  try {
    return JSON.parse(bytes.toString()) as { manifests?: unknown }
  } catch (error) {
    throw new CliError(`the manifest of ${name} is not JSON`, { cause: error })
  }
}
