import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from '../processes.mjs'

/** What the bytes cost alone: each layer unpacked over the one before it. */
export class Tar {
  name = 'GNU tar'
  note = 'the layers unpacked into one folder: nothing is hashed, no whiteouts, nothing to mount'

  static absent() {
    return ask('tar', ['--version'])?.includes('GNU') ? undefined : 'GNU tar is not installed'
  }

  static async start(workspace, file) {
    const tar = new Tar()
    tar.root = join(workspace.part('tar'), 'root')
    tar.layers = JSON.parse(await run('tar', ['-xOf', file, 'manifest.json']))[0].Layers
    tar.version = ask('tar', ['--version'])
      .split('\n')[0]
      .replace(/tar \(GNU tar\)/, 'GNU tar')
    return tar
  }

  watch() {}

  async load(file, peaks) {
    mkdirSync(this.root)
    for (const layer of this.layers)
      await run(
        'sh',
        [
          '-c',
          'tar -xOf "$1" --occurrence=1 "$2" | tar -x --numeric-owner --xattrs -C "$3"',
          'sh',
          file,
          layer,
          this.root,
        ],
        { peaks },
      )
  }

  async mount() {
    return this.root
  }

  async clear() {
    rmSync(this.root, { recursive: true })
  }

  async stop() {}
}
