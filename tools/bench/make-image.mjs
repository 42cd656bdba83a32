#!/usr/bin/env node
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'

/**
 * A real image of about 1 GB and 50,000 entries, as `docker save` writes one: `make-image.mjs FILE
 * [NAME:TAG]`. What is there already stays.
 *
 * Three plain layers: Debian's minbase; python3, git and curl; a compiler, cmake and Node.js. Root
 * and debootstrap are needed, and the mirror is the one that this machine's own apt uses.
 */
const LAYERS = [
  ['python3', 'git', 'curl'],
  ['build-essential', 'cmake', 'nodejs', 'npm'],
]
const SUITE = 'bookworm'

const [file, name = 'bench/debian:1'] = process.argv.slice(2)
if (file === undefined) {
  process.stderr.write('make-image.mjs FILE [NAME:TAG]\n')
  process.exit(1)
}
if (!existsSync(file)) await make(resolve(file))
process.stdout.write(`${file}: ${statSync(file).size} bytes\n`)

async function make(target) {
  mkdirSync(dirname(target), { recursive: true })
  const work = mkdtempSync(join(dirname(target), 'making-'))
  try {
    const trees = [join(work, 'base')]
    run('debootstrap', ['--variant=minbase', SUITE, trees[0], mirror()])
    clean(trees[0])
    for (const packages of LAYERS) trees.unshift(install(work, trees, packages))
    const files = []
    for (const tree of trees.reverse()) files.push(layer(work, tree, files.length))
    await writeArchive(work, files)
    renameSync(join(work, 'image.tar'), target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Of apt's sources the one for the suite itself. */
function mirror() {
  const lines = run(
    'apt-get',
    ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(CODENAME)', 'Created-By: Packages'],
    'pipe',
  ).split('\n')
  const found = lines
    .map((line) => line.split(' '))
    .find(([, release, codename]) => release === SUITE || codename === SUITE)
  if (!found) throw new Error(`apt on this machine knows no source of ${SUITE}`)
  return found[0]
}

/** The packages put over the trees (topmost first); what that changed, as the next layer's tree. */
function install(work, trees, packages) {
  const [upper, scratch, merged] = ['upper', 'scratch', 'merged'].map((part) => join(work, `${trees.length}-${part}`))
  for (const folder of [upper, scratch, merged]) mkdirSync(folder)
  run('mount', [
    '-t',
    'overlay',
    'overlay',
    '-o',
    `lowerdir=${trees.join(':')},upperdir=${upper},workdir=${scratch}`,
    merged,
  ])
  try {
    run('mount', ['--bind', '/etc/resolv.conf', touched(join(merged, 'etc/resolv.conf'))])
    run('chroot', [merged, 'apt-get', '-q', 'update'])
    run('chroot', [merged, 'apt-get', '-qy', '-o', 'Dpkg::Options::=--force-unsafe-io', 'install', ...packages])
    run('umount', [join(merged, 'etc/resolv.conf')])
    clean(merged)
  } finally {
    spawnSync('umount', [join(merged, 'etc/resolv.conf')], { stdio: 'ignore' })
    run('umount', [merged])
  }
  return upper
}

function touched(path) {
  if (!existsSync(path)) writeFileSync(path, '')
  return path
}

function clean(tree) {
  run('chroot', [tree, 'apt-get', 'clean'])
  run('sh', ['-c', 'rm -rf "$1"/var/lib/apt/lists/*', 'sh', tree])
}

/**
 * One tree as a layer. Overlayfs marks what is gone by a character device 0:0, a layer by a file
 * `.wh.NAME`.
 */
function layer(work, tree, number) {
  for (const gone of run('find', [tree, '-type', 'c', '-print0'], 'pipe').split('\0')) {
    if (gone === '' || lstatSync(gone).rdev !== 0) continue
    rmSync(gone)
    writeFileSync(join(dirname(gone), `.wh.${basename(gone)}`), '')
  }
  const folder = join(work, `layer${number}`)
  mkdirSync(folder)
  const path = join(folder, 'layer.tar')
  run('tar', [
    '--numeric-owner',
    '--sort=name',
    '--format=posix',
    '--pax-option=delete=atime,delete=ctime',
    '-C',
    tree,
    '-cf',
    path,
    '.',
  ])
  rmSync(tree, { recursive: true })
  return path
}

async function writeArchive(work, layers) {
  const diffIds = []
  for (const path of layers) {
    const hash = createHash('sha256')
    await pipeline(createReadStream(path), hash)
    diffIds.push(`sha256:${hash.digest('hex')}`)
  }
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['bash'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  })
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`
  writeFileSync(join(work, configName), config)
  writeFileSync(
    join(work, 'manifest.json'),
    JSON.stringify([
      { Config: configName, RepoTags: [name], Layers: layers.map((path) => path.slice(work.length + 1)) },
    ]),
  )
  run('tar', [
    '--numeric-owner',
    '-C',
    work,
    '-cf',
    join(work, 'image.tar'),
    ...layers.map((path) => path.slice(work.length + 1)),
    configName,
    'manifest.json',
  ])
}

function run(program, args, output = 'inherit') {
  return execFileSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', output === 'pipe' ? 'pipe' : 2, 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    maxBuffer: 64 * 1024 * 1024,
  })
}
