import { CliError } from './errors.js'

/**
 * The path, if Node.js has it as it was given: for what is not UTF-8 in an argument, a variable or
 * the working directory it has U+FFFD. That would be a file of another name, which is then made, or
 * is not there.
 */
export function utf8Path(path: string): string {
  if (path.includes('\ufffd')) throw new CliError(`the path ${JSON.stringify(path)} is not UTF-8: choose another name`)
  return path
}
