import type { Command } from 'commander'
import { openArchive } from '../archive.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { send } from './load.js'
import { print } from '../terminal.js'

interface ImportOptions {
  readonly change: string[]
  readonly message?: string
  readonly platform?: string
  readonly timestamp?: string
  readonly quiet?: boolean
}

export function importCommand(program: Command, context: Context): void {
  program
    .command('import')
    .description('make an image of a root file system in a tar: plain, gzip, zstd, bzip2 or xz')
    .argument('<file>', 'the tar; - is stdin')
    .argument('[name]')
    .option(
      '-c, --change <instruction>',
      'CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR as in a Dockerfile; may be repeated',
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option('-m, --message <message>', "the image's comment")
    .option('--platform <platform>', "os/architecture[/variant], if it is not the service's own")
    .option(
      '--timestamp <seconds>',
      'when the image was created, in seconds since 1970; SOURCE_DATE_EPOCH, or 0, if left out',
    )
    .option('-q, --quiet', 'no progress')
    .action(
      async (
        file: string,
        name: string | undefined,
        {
          change,
          message,
          platform,
          timestamp = context.environment['SOURCE_DATE_EPOCH'] || undefined,
          quiet,
        }: ImportOptions,
      ) => {
        if (/^https?:/i.test(file))
          throw new CliError(`import fetches nothing: curl -fsSL ${file} | strata import - ${name ?? ''}`.trimEnd())
        if (timestamp !== undefined && !/^[0-9]{1,12}$/.test(timestamp))
          throw new CliError(`the time ${JSON.stringify(timestamp)} is not a number of seconds since 1970`)
        const query = [
          ['import', name ?? ''],
          ['message', message],
          ['platform', platform],
          ['timestamp', timestamp],
          ...change.map((text) => ['change', text] as const),
        ] as const
        const { images } = await send(context.client(), openArchive(file, 'import'), query, quiet)
        for (const { id } of images) print(id)
      },
    )
}
