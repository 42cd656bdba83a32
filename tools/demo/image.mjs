import { busyboxTree, difference, makeArchive, makeLayer } from '@strata/archive/testing'

const NAME = 'strata/hello:1'

const HELLO = `#!/bin/sh
echo "Hello from $(hostname), a container of $(ls /bin | wc -l) programs and two layers."
echo "  /etc/motd     $(cat /etc/motd)"
echo "  /etc/removed  $([ -e /etc/removed ] && echo 'is still here?' || echo 'is gone: a whiteout of layer 2 hides it')"
echo "  /             $(ls / | tr '\\n' ' ')"
echo "  kernel        $(uname -sr), process $$ of its own, user $(id -un)"
`

/**
 * An image without a Dockerfile: the tar of a tree, the tar of what a second tree has different,
 * and a config.
 */
export async function helloImage() {
  const first = busyboxTree()
  first.set('etc/motd', { content: 'written by layer 1\n' })
  first.set('etc/removed', { content: 'written by layer 1\n' })
  const second = new Map(first)
  second.delete('etc/removed')
  second.set('etc/motd', { content: 'written by layer 2, over layer 1\n' })
  second.set('hello', { content: HELLO, mode: 0o755 })
  const layers = [await makeLayer(first), await makeLayer(difference(first, second))]
  return makeArchive({ names: [NAME], layers, config: { Cmd: ['/hello'], Env: ['PATH=/bin'], WorkingDir: '/' } })
}
