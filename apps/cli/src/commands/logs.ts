import { InvalidArgumentError, type Command } from 'commander'
import { urlOf } from '../client.js'
import type { Context } from '../context.js'
import { CliError } from '../errors.js'
import { demultiplex } from '../frames.js'
import { OutputError, stderr, stdout } from '../output.js'

export function logsCommand(program: Command, context: Context): void {
  program
    .command('logs')
    .description("a container's output so far")
    .argument('<container>')
    .option('-f, --follow', 'go on until it ends')
    .option('-n, --tail <lines>', 'only the last lines', lineCount, 'all')
    .action(async (name: string, { follow, tail }: { follow?: boolean; tail: string }) => {
      const query = new URLSearchParams({ follow: String(follow ?? false), tail })
      const body = await context
        .client()
        .stream(`${urlOf('containerLogs', { params: { id: name } })}?${query.toString()}`)
      try {
        await demultiplex(body, stdout, stderr)
      } catch (error) {
        // `strata logs c | head`: the reader has enough.
        if (error instanceof OutputError && error.isGone) return
        throw error instanceof CliError
          ? error
          : new CliError('the connection to Strata broke while the output was read', { cause: error })
      } finally {
        body.destroy()
      }
    })
}

/** A count, or `all`, which docker also reads from a negative number. */
function lineCount(text: string): string {
  if (text === 'all' || /^-\d+$/.test(text)) return 'all'
  if (/^\d{1,9}$/.test(text)) return text
  throw new InvalidArgumentError('Not a number of lines.')
}
