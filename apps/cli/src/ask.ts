import { CliError } from './errors.js'
import { stderr } from './output.js'
import { exitCodeOf } from './signals.js'
import { printableLine } from './terminal.js'

const MAX_ANSWER = 64 * 1024

/** The next line that the user types at the terminal, without what `isHidden` says not to show. */
export async function ask(question: string, isHidden = false): Promise<string> {
  const { stdin } = process
  stdin.setEncoding('utf8')
  // Only so can Node have a terminal echo nothing. It then does nothing else for us either.
  if (isHidden) stdin.setRawMode(true)
  stderr.write(printableLine(question))
  try {
    return await new Promise<string>((resolve, reject) => {
      const line: string[] = []
      const end = (settle: () => void): void => {
        stdin.off('data', take).off('end', ended).pause()
        settle()
      }
      const ended = (): void => end(() => resolve(line.join('')))
      const take = (text: string): void => {
        for (const [at, character] of Array.from(text).entries()) {
          if (character === INTERRUPT) return end(() => reject(new CliError('', { exitCode: exitCodeOf('SIGINT') })))
          if (character === '\r' || character === '\n' || character === EOT) {
            // The user may have typed the answer to the next question already.
            const rest = Array.from(text).slice(at + 1)
            if (rest.length > 0) stdin.unshift(rest.join(''))
            return end(() => resolve(line.join('')))
          }
          if (isHidden && (character === '\x7f' || character === '\b')) line.pop()
          else line.push(character)
          if (line.length > MAX_ANSWER) return end(() => reject(new CliError('that is too long')))
        }
      }
      stdin.on('data', take).on('end', ended).resume()
    })
  } finally {
    if (isHidden) {
      stdin.setRawMode(false)
      stderr.write('\n')
    }
  }
}

/** Ctrl-C and Ctrl-D, as a raw terminal gives them. */
const INTERRUPT = '\x03'
const EOT = '\x04'

/** All that comes by stdin, without the end of its last line. */
export async function secretFromStdin(): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_ANSWER) throw new CliError(`stdin has more than ${MAX_ANSWER} bytes: that is no password`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
    .toString()
    .replace(/\r?\n$|\r$/, '')
}
