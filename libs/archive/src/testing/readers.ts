import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StrataError } from '@strata/base'
import { extract } from 'tar-stream'
import { ENTRY } from '../tar/tar-entry.js'
import { TarReader } from '../tar/tar-reader.js'

/**
 * What a reader makes of a tar: of a file `name size`, of a folder `name/`, of all else `name (its
 * letter in ls)`, with commas between; `!` at the end where it complains.
 */
type Reading = string
export interface Reader {
  readonly name: string
  /** Why it cannot be asked on this machine, if so. */
  readonly why: string | undefined
  read(tar: Buffer): Promise<Reading> | Reading
}

const line = (name: string, type: string, size: number): string =>
  type === 'd' ? `${name.replace(/\/*$/, '')}/` : type === '-' ? `${name} ${size}` : `${name} (${type})`

const ours: Reader = {
  name: 'Strata',
  why: undefined,
  read(tar) {
    const seen: string[] = []
    const types = {
      [ENTRY.file]: '-',
      [ENTRY.directory]: 'd',
      [ENTRY.symlink]: 'l',
      [ENTRY.hardlink]: 'h',
      [ENTRY.char]: 'c',
      [ENTRY.block]: 'b',
      [ENTRY.fifo]: 'p',
    }
    const reader = new TarReader({
      entry: (entry) => (seen.push(line(entry.path.toString('latin1'), types[entry.type], entry.size)), false),
      data: () => undefined,
      entryEnd: () => undefined,
    })
    try {
      reader.write(tar)
      reader.end()
    } catch (error) {
      if (!(error instanceof StrataError)) throw error
      seen.push('!')
    }
    return seen.join(', ')
  },
}

const tarStream: Reader = {
  name: 'tar-stream',
  why: undefined,
  async read(tar) {
    const seen: string[] = []
    const types: Record<string, string> = {
      file: '-',
      'contiguous-file': '-',
      directory: 'd',
      symlink: 'l',
      link: 'h',
      'character-device': 'c',
      'block-device': 'b',
      fifo: 'p',
    }
    try {
      const reader = extract()
      reader.end(tar)
      for await (const entry of reader) {
        const { name, type, size } = entry.header
        seen.push(line(name, types[type] ?? type, size))
        entry.resume()
      }
    } catch {
      seen.push('!')
    }
    return seen.join(', ')
  },
}

/** By a program that is given the tar and prints what is in it. */
function program(name: string, command: readonly string[], lines: (stdout: string) => string[]): Reader {
  const isThere = spawnSync(command[0]!, ['--version'], { stdio: 'ignore' }).error === undefined
  return {
    name,
    why: isThere ? undefined : `it needs ${name}`,
    read(tar) {
      const { stdout, status } = spawnSync(command[0]!, command.slice(1), {
        input: tar,
        encoding: 'latin1',
        env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
      })
      return [...lines(stdout), ...(status === 0 ? [] : ['!'])].join(', ')
    },
  }
}

/**
 * `-rw-r--r-- 0/0 3 1970-01-01 00:00 name` of GNU, `-rw-r--r-- 0 0 0 3 Jan 1 1970 name` of
 * libarchive.
 */
const GNU_LINE = /^(.)\S* \S+ +(\d+|\d+,\d+) \S+ \S+ (.*)$/
const BSD_LINE = /^(.)\S* +\d+ +\S+ +\S+ +(\d+|\d+,\d+) +\S+ +\S+ +\S+ (.*)$/
const listed =
  (pattern: RegExp) =>
  (stdout: string): string[] =>
    stdout.split('\n').flatMap((text) => {
      const [, type, size, name] = pattern.exec(text) ?? []
      if (type === undefined || name === undefined) return []
      const isHard = name.includes(' link to ')
      return [line(name.replace(/ (?:->|link to) .*$/, ''), isHard ? 'h' : type === 'C' ? '-' : type, Number(size))]
    })
const tabbed = (stdout: string): string[] =>
  stdout
    .split('\n')
    .filter(Boolean)
    .map((text) => {
      const [type, size, name] = text.split('\t')
      return line(name ?? '', type ?? '', Number(size))
    })

const PYTHON = `
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='latin-1') as tar:
    for m in tar:
        kind = 'd' if m.isdir() else 'l' if m.issym() else 'h' if m.islnk() else 'c' if m.ischr() else 'b' if m.isblk() else 'p' if m.isfifo() else '-' if m.isreg() else m.type.decode('latin-1')
        sys.stdout.buffer.write(('%s\\t%d\\t%s\\n' % (kind, m.size, m.name)).encode('latin-1'))
`

const GO = `package main

import ("archive/tar"; "bufio"; "fmt"; "io"; "os")

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	reader := tar.NewReader(os.Stdin)
	for {
		h, err := reader.Next()
		if err == io.EOF { return }
		if err != nil { out.Flush(); os.Exit(1) }
		kind := map[byte]string{tar.TypeReg: "-", tar.TypeCont: "-", tar.TypeGNUSparse: "-", tar.TypeDir: "d", tar.TypeSymlink: "l", tar.TypeLink: "h", tar.TypeChar: "c", tar.TypeBlock: "b", tar.TypeFifo: "p"}[h.Typeflag]
		if kind == "" { kind = string(rune(h.Typeflag)) }
		fmt.Fprintf(out, "%s\\t%d\\t%s\\n", kind, h.Size, h.Name)
	}
}
`

/** Built once: half a minute of Go's own packages. */
const GOCACHE = fileURLToPath(new URL('../../../../node_modules/.cache/go', import.meta.url))

/** All of them. Go's has to be built: `close` takes that away. */
export function openReaders(): { readers: readonly Reader[]; close(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'strata-readers-'))
  writeFileSync(join(folder, 'main.go'), GO)
  spawnSync('go', ['build', '-o', join(folder, 'go-tar'), join(folder, 'main.go')], {
    env: { ...process.env, GOCACHE, GOTOOLCHAIN: 'local' },
    stdio: 'ignore',
  })
  const readers = [
    ours,
    program('GNU tar', ['tar', '--quoting-style=literal', '-tvf', '-'], listed(GNU_LINE)),
    program('bsdtar', ['bsdtar', '-tvf', '-'], listed(BSD_LINE)),
    program('Python', ['python3', '-c', PYTHON], tabbed),
    tarStream,
    program('Go', [join(folder, 'go-tar')], tabbed),
  ]
  return { readers, close: () => rmSync(folder, { recursive: true, force: true }) }
}
