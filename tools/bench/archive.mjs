import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { run } from './processes.mjs'

/**
 * Of a `docker save` archive: its image's name, and a file of each layer that later layers leave
 * alone. Reads it whole, so it is in the page cache then.
 */
export async function describe(file) {
  const [{ RepoTags, Layers }] = JSON.parse(await run('tar', ['-xOf', file, 'manifest.json']))
  const layers = []
  for (const layer of Layers) {
    const names = await run('sh', ['-c', 'tar -xOf "$1" "$2" | tar -tv', 'sh', file, layer])
    const lines = names.split('\n').filter((line) => line !== '')
    const paths = (kind) =>
      lines
        .filter((line) => line.startsWith(kind))
        .map((line) => /^\S+\s+\S+\s+\d+\s+\S+\s+\S+\s(?:\.\/)?(.*)$/.exec(line)[1])
    layers.push({
      entries: lines.length,
      files: paths('-').filter((name) => !name.includes('.wh.') && !name.includes('\\')),
      gone: paths('-').flatMap(whiteout),
    })
  }
  const probes = layers.map(({ files }, number) => {
    const later = layers.slice(number + 1)
    const written = new Set(later.flatMap((layer) => layer.files))
    const gone = later.flatMap((layer) => layer.gone)
    // From the middle: neither the first name nor the last is likely to be special.
    return files
      .slice(files.length >> 1)
      .find((name) => !written.has(name) && !gone.some((path) => `${name}/`.startsWith(`${path}/`)))
  })
  if (probes.includes(undefined)) throw new Error(`${file}: a layer has no plain file that later layers leave alone`)
  return {
    image: RepoTags[0],
    probes,
    entries: layers.reduce((sum, { entries }) => sum + entries, 0),
    size: statSync(file).size,
  }
}

/** The file's bytes in the page cache, as the user's archive is who has just made it. */
export function warm(file) {
  const buffer = Buffer.alloc(1024 * 1024)
  const fd = openSync(file, 'r')
  while (readSync(fd, buffer) > 0);
  closeSync(fd)
}

/** What a whiteout takes away (image-spec, layer.md): one name, or all that lay in a folder. */
function whiteout(path) {
  const [, folder, name] = /^((?:.*\/)?)\.wh\.([^/]*)$/.exec(path) ?? []
  return name === undefined ? [] : [name === '.wh..opq' ? folder.slice(0, -1) : folder + name]
}
