// Preloaded into services under test (`NODE_OPTIONS=--import file:///…/stop-at.mjs`): the process
// that passes a failpoint with an order waiting for it stops right there.
//
// An order is a file `$STOP_AT/<failpoint>` that holds a signal and at which pass it is due
// (`SIGKILL 2`), and may name the only request that it is about. Who carries it out first names
// itself in `<failpoint>.taken`, so that the test waits for that and not for a while. (A failpoint
// is rare, so a look at the disk at each costs a test nothing.)
import { subscribe } from 'node:diagnostics_channel'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const folder = process.env.STOP_AT

if (folder !== undefined) {
  subscribe('strata:failpoint', ({ failpoint, of }) => {
    const order = join(folder, failpoint)
    let text
    try {
      text = readFileSync(order, 'utf8')
    } catch {
      return
    }
    const [signal, passes, only] = text.split(' ')
    if (only !== undefined && only !== of) return
    if (Number(passes) > 1) return writeFileSync(order, [signal, passes - 1, only].join(' ').trimEnd())
    writeFileSync(order, String(process.pid))
    renameSync(order, `${order}.taken`)
    process.kill(process.pid, signal)
  })
}
