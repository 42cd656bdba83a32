import { createContext } from './context.js'
import { CliError } from './errors.js'
import { createProgram } from './program.js'
import { outputWritten } from './output.js'
import { complain } from './terminal.js'

try {
  await createProgram(createContext(process.env)).parseAsync()
  await outputWritten()
} catch (error) {
  // Not process.exit: what was written to a pipe may still be on its way.
  process.exitCode = error instanceof CliError ? error.exitCode : 1
  // A mistake of ours is told with its stack; by us, since it may quote what the service said.
  if (!(error instanceof CliError)) complain(error instanceof Error ? (error.stack ?? error.message) : String(error))
  else if (error.message !== '') complain(error.message, error.speaker)
}
