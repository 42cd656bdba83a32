import { randomBytes, timingSafeEqual } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { StrataError } from '@strata/base'

const MIN_LENGTH = 16

/**
 * Makes a secret of 32 random bytes in a 0600 file, hex text, if the file is not there: whole or
 * not at all, the same for all who race to make it.
 */
export function makeSecretFile(path: string): void {
  if (read(path) !== undefined) return
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  const file = openSync(temporary, 'wx', 0o600)
  writeSync(file, `${randomBytes(32).toString('hex')}\n`)
  fsyncSync(file)
  closeSync(file)
  try {
    linkSync(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(temporary, { force: true })
  }
  chmodSync(path, 0o600)
}

/**
 * The secret of a file that must be there: one that services on several machines share cannot be
 * made by each of them. `variable` is what names the file, for the sentence that says so.
 */
export function readSecretFile(path: string, variable: string): string {
  const secret = read(path)
  if (secret === undefined)
    throw new StrataError(
      'bad_request',
      `${variable}: ${path} is not there, or empty: make it once and give it to all who share it (openssl rand -hex 32 > FILE)`,
    )
  if (secret.length < MIN_LENGTH)
    throw new StrataError(
      'bad_request',
      `${variable}: the secret in ${path} has ${secret.length} characters; at least ${MIN_LENGTH} are needed`,
    )
  return secret
}

/** A link is followed: this is how secrets are mounted. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    const what = code === 'EISDIR' ? 'is a folder' : `cannot be read (${code ?? message})`
    throw new StrataError(
      'bad_request',
      `the secret ${path} ${what}: put back the file that was there, or make a new one and give it to all who share it`,
      { cause: error },
    )
  }
}

/** Compares texts with a secret. The time does not depend on where they differ. */
export function isSecret(secret: string): (given: string) => boolean {
  const expected = Buffer.from(secret)
  const compared = Buffer.alloc(expected.length)
  return (given) => {
    // Without the zeros, a shorter text would be completed by the one that was compared before.
    compared.fill(0).write(given)
    return timingSafeEqual(compared, expected) && Buffer.byteLength(given) === expected.length
  }
}
