import { randomUUID } from 'node:crypto'
import {
  chownSync,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { CliError, reasonOf } from '../errors.js'
import { utf8Path } from '../utf8-path.js'

type Members = Readonly<Record<string, unknown>>

/** docker's configuration of a user, as far as it is about logins. It need not be there. */
export interface DockerConfig {
  readonly path: string
  /** By server: the logins that the file itself has, each as docker writes it. */
  readonly auths: Members
  /** The program that keeps all logins that have no helper of their own. */
  readonly credsStore: unknown
  /** By server: the program that keeps its login. */
  readonly credHelpers: Members
  /** All of it. What Strata does not know stays when the file is written. */
  readonly document: Members
}

const MAX_CONFIG = 1024 * 1024

/**
 * Reads `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`.
 * @throws CliError if it is there and cannot be used
 */
export function readDockerConfig(environment: NodeJS.ProcessEnv): DockerConfig {
  const folder = environment['DOCKER_CONFIG'] || join(environment['HOME'] || homedir(), '.docker')
  const path = utf8Path(join(folder, 'config.json'))
  const text = textOf(path)
  // docker takes an empty file for none.
  const document = text.trim() === '' ? {} : parsed(path, text)
  const { auths = {}, credsStore, credHelpers = {} } = document
  if (!isMembers(auths)) throw broken(path, 'its "auths" is no object')
  if (!isMembers(credHelpers)) throw broken(path, 'its "credHelpers" is no object')
  return { path, auths, credsStore, credHelpers, document }
}

export function isMembers(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Docker's configuration cannot be used. The sentence quotes nothing of it: it has secrets. */
export function broken(path: string, why: string): CliError {
  return new CliError(`docker's configuration ${path} cannot be used: ${why}. Mend it, or move it away`)
}

function parsed(path: string, text: string): Members {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw broken(path, 'it is not JSON')
  }
  if (!isMembers(value)) throw broken(path, 'it is no JSON object')
  return value
}

/** The file's text; empty if there is none. */
function textOf(path: string): string {
  let fd: number
  try {
    // Without waiting for the writer of a FIFO.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return ''
    throw new CliError(`open ${path}: ${reasonOf(error)}`, { cause: error })
  }
  try {
    const status = fstatSync(fd)
    if (!status.isFile()) throw broken(path, 'it is no regular file')
    if (status.size > MAX_CONFIG) throw broken(path, `it has more than ${MAX_CONFIG} bytes`)
    const bytes = Buffer.alloc(status.size)
    let size = 0
    for (let read = -1; size < bytes.length && read !== 0; size += read)
      read = readSync(fd, bytes, size, bytes.length - size, size)
    return bytes.toString('utf8', 0, size)
  } finally {
    closeSync(fd)
  }
}

/**
 * Writes the configuration with other logins, as docker does: for its owner alone, by a rename, and
 * where it is a symbolic link, to what the link names. Two that write at once do not tear the file;
 * the later one counts.
 */
export function writeAuths({ path, document }: DockerConfig, auths: Members): void {
  let text: string
  try {
    text = JSON.stringify({ ...document, auths }, undefined, '\t')
  } catch {
    throw broken(path, 'it is nested too deeply')
  }
  try {
    makeFolder(dirname(path))
    const target = targetOf(path)
    const made = join(dirname(target), `${basename(target)}.${randomUUID()}`)
    try {
      writeWhole(made, text)
      keepOwner(target, made)
      renameSync(made, target)
    } catch (error) {
      rmSync(made, { force: true })
      throw error
    }
  } catch (error) {
    throw new CliError(`cannot write docker's configuration ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/** Not by Node's `recursive`: it never ends where nothing can be made (`/proc/x`). */
function makeFolder(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })) return
  if (dirname(path) !== path) makeFolder(dirname(path))
  mkdirSync(path, { mode: 0o700 })
}

/** Where the file is, or will be: a link may name what is not there yet. */
function targetOf(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if (!isAbsent(error)) throw error
    try {
      return resolve(dirname(path), readlinkSync(path))
    } catch (none) {
      if (isAbsent(none)) return path
      throw none
    }
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}

function writeWhole(path: string, text: string): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** `sudo strata login` must not take the file away from its owner. */
function keepOwner(from: string, to: string): void {
  const before = statSync(from, { throwIfNoEntry: false })
  if (before && process.getuid?.() === 0) chownSync(to, before.uid, before.gid)
}
