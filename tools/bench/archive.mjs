import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { run } from './processes.mjs'

/** Of a `docker save` archive: its image's name, and a file of each layer that later layers leave alone. Reads it whole, so it is in the page cache then. */
export function describe(file) {
  const [{ RepoTags, Layers }] = JSON.parse(run('tar', ['-xOf', file, 'manifest.json']))
  const layers = Layers.map((layer) => {
    const { stdout } = spawnSync('sh', ['-c', 'tar -xOf "$1" "$2" | tar -tv', 'sh', file, layer], { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 })
    const lines = stdout.split('\n').filter((line) => line !== '')
    const files = lines.filter((line) => line.startsWith('-')).map((line) => /^\S+\s+\S+\s+\d+\s+\S+\s+\S+\s(?:\.\/)?(.*)$/.exec(line)[1])
    return { entries: lines.length, files }
  })
  const probes = layers.map(({ files }, number) => {
    const later = new Set(layers.slice(number + 1).flatMap((layer) => layer.files))
    // From the middle: neither the first name nor the last is likely to be special.
    return files.slice(files.length >> 1).find((name) => !later.has(name) && !name.includes('/.wh.') && !name.includes('\\'))
  })
  return { image: RepoTags[0], probes, entries: layers.reduce((sum, { entries }) => sum + entries, 0), size: statSync(file).size }
}

/** The file's bytes in the page cache, as the user's archive is who has just made it. */
export function warm(file) {
  const buffer = Buffer.alloc(1024 * 1024)
  const fd = openSync(file, 'r')
  while (readSync(fd, buffer) > 0);
  closeSync(fd)
}
