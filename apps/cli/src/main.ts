import { complain, createContext } from './context.js'
import { CliError } from './errors.js'
import { createProgram } from './program.js'

// A reader that went away (`strata images | head -1`) is no crash; who must know, asks (frames.ts).
process.stdout.on('error', () => undefined)
process.stderr.on('error', () => undefined)

try {
  await createProgram(createContext(process.env)).parseAsync()
} catch (error) {
  if (!(error instanceof CliError)) throw error
  if (error.message !== '') complain(error.message, error.speaker)
  // Not process.exit: what was written to a pipe may still be on its way.
  process.exitCode = error.exitCode
}
