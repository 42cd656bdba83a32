import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from '../processes.mjs'

/**
 * umoci unpacks an OCI layout into a plain folder; the layout is made by skopeo before the rounds.
 * Its layers are gzip: umoci 0.4 takes no other.
 */
export class Umoci {
  name = 'umoci unpack'
  note =
    'from an OCI layout of gzip layers, made by skopeo outside of the timed part; into a folder, nothing is mounted'

  static absent() {
    return ['umoci', 'skopeo']
      .filter((program) => ask(program, ['--version']) === undefined)
      .map((program) => `${program} is not installed`)[0]
  }

  static async start(workspace, file) {
    const umoci = new Umoci()
    const data = workspace.part('umoci')
    umoci.bundle = join(data, 'bundle')
    umoci.layout = `${join(data, 'layout')}:bench`
    await run('skopeo', [
      '--tmpdir',
      data,
      '--insecure-policy',
      'copy',
      '-q',
      `docker-archive:${file}`,
      `oci:${umoci.layout}`,
    ])
    umoci.version = ask('umoci', ['--version']).replace(' version', '')
    return umoci
  }

  watch() {}

  async load(file, peaks) {
    await run('umoci', ['unpack', '--image', this.layout, this.bundle], { peaks })
  }

  async mount() {
    return join(this.bundle, 'rootfs')
  }

  async clear() {
    rmSync(this.bundle, { recursive: true })
  }

  async stop() {}
}
