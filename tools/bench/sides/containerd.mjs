import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask, end, run, start } from '../processes.mjs'

/** A containerd of our own with its overlayfs snapshotter, spoken to by its `ctr`. */
export class Containerd {
  name = 'containerd'
  isPeer = true
  runs = 0

  static absent() {
    return ['containerd', 'ctr']
      .filter((program) => ask(program, ['--version']) === undefined)
      .map((program) => `${program} is not installed`)[0]
  }

  static async start(workspace) {
    const containerd = new Containerd()
    const data = (containerd.data = workspace.part('containerd'))
    containerd.socket = join(data, 'containerd.sock')
    const config = join(data, 'config.toml')
    writeFileSync(
      config,
      [
        'version = 2',
        `root = "${data}/root"`,
        `state = "${data}/state"`,
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]',
        `[grpc]\n  address = "${containerd.socket}"`,
        `[plugins."io.containerd.internal.v1.opt"]\n  path = "${data}/opt"`,
        '',
      ].join('\n'),
    )
    containerd.process = await start('containerd', ['--config', config], {
      log: join(data, 'log'),
      isReady: () => ask('ctr', ['-a', containerd.socket, 'version']) !== undefined,
    })
    const version = /Server:\s+Version:\s+(\S+)/.exec(await containerd.ctr(['version']))[1]
    containerd.version = `containerd ${version} with overlayfs`
    return containerd
  }

  ctr(args, options) {
    return run('ctr', ['-a', this.socket, '-n', 'bench', ...args], options)
  }

  watch(peaks) {
    peaks.watch(this.process.pid, 'containerd')
  }

  async load(file, peaks) {
    await this.ctr(['images', 'import', '--snapshotter', 'overlayfs', file], { peaks })
  }

  runCommand(_image, command) {
    // Whatever containerd calls it: there is one. Asked for once, in a round that warms up.
    this.image ??= ask('ctr', ['-a', this.socket, '-n', 'bench', 'images', 'list', '-q']).split('\n')[0]
    return [
      'ctr',
      [
        '-a',
        this.socket,
        '-n',
        'bench',
        'run',
        '--rm',
        '--snapshotter',
        'overlayfs',
        this.image,
        `run-${this.runs++}`,
        ...command,
      ],
    ]
  }

  /**
   * A view of the topmost snapshot, whose key is the chain id, which nothing else has as its
   * parent.
   */
  async mount() {
    const rows = (await this.ctr(['snapshots', '--snapshotter', 'overlayfs', 'list']))
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => row.trim().split(/\s+/))
    const top = rows.find(([key]) => !rows.some(([, parent]) => parent === key))
    this.mounted = mkdtempSync(join(this.data, 'mount-'))
    const command = await this.ctr([
      'snapshots',
      '--snapshotter',
      'overlayfs',
      'view',
      '--target',
      this.mounted,
      'view',
      top[0],
    ])
    await run('sh', ['-c', command])
    return this.mounted
  }

  async clear() {
    await run('umount', [this.mounted])
    rmSync(this.mounted, { recursive: true })
    // Nothing refers to a view, so containerd's own collector may have been quicker.
    await this.ctr(['snapshots', '--snapshotter', 'overlayfs', 'remove', 'view']).catch((error) => {
      if (!error.message.includes('does not exist')) throw error
    })
    const names = (await this.ctr(['images', 'list', '-q'])).trim().split('\n')
    await this.ctr(['images', 'remove', '--sync', ...names])
    for (const what of ['content', 'snapshots']) {
      const left = (await this.ctr([what, 'list', ...(what === 'content' ? ['-q'] : [])]))
        .trim()
        .split('\n')
        .filter((row) => row.includes('sha256:'))
      if (left.length > 0) throw new Error(`containerd kept ${left.length} of its ${what}`)
    }
  }

  async stop() {
    await end(this.process)
  }
}
