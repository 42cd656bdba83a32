import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { CliError, reasonOf } from './errors.js'

/**
 * What an OCI image layout consists of (image-spec, image-layout.md); whatever else lies in the
 * folder is not read.
 */
const PARTS = ['oci-layout', 'index.json', 'blobs']

export function isLayoutFolder(path: string): boolean {
  return PARTS.every((part) => lstatSync(join(path, part), { throwIfNoEntry: false }) !== undefined)
}

/**
 * The layout as a tar, by tar(1), which follows no link: links travel as links, and whoever reads
 * the archive follows them inside it only. If tar does not end well (a file that cannot be read, or
 * changed meanwhile), the stream ends with its words.
 */
export function layoutBytes(path: string): Readable {
  return Readable.from(tarOf(path), { objectMode: false, highWaterMark: 1024 * 1024 })
}

async function* tarOf(path: string): AsyncGenerator<Buffer> {
  const tar = spawn('tar', ['-C', path, '-c', '-f', '-', ...PARTS], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  tar.stderr.on('data', (piece: Buffer) => (said = (said + piece.toString()).slice(0, 1000)))
  const ended = once(tar, 'close').catch((error: unknown) => [reasonOf(error)])
  try {
    yield* tar.stdout as AsyncIterable<Buffer>
    const [code] = (await ended) as [number | string | null]
    if (code !== 0)
      throw new CliError(`${path} cannot be read: ${said.trim().split('\n')[0] || `tar ended with ${code}`}`)
  } finally {
    tar.kill('SIGKILL')
  }
}
