import { execFile } from 'node:child_process'

/** A client in a process of its own that opens a file and names it, or something else. */
export interface Naming {
  readonly path: string
  /** Of open(2); read-only if not given. */
  readonly flags?: number
  /** What to say otherwise than is true. */
  readonly lie?: Readonly<Record<string, unknown>>
  readonly query?: string
  /** What runs the client: `unshare`, `setpriv`, … */
  readonly under?: readonly string[]
  /**
   * Connects as this user, and is root again before it opens the file: what a setuid program looks
   * like that a caller has become.
   */
  readonly connectAs?: number
  /** Node where the client can reach it; the test's own if left out. */
  readonly node?: string
}

const CLIENT = `
const { openSync, fstatSync } = require('node:fs')
const { request } = require('node:http')
const { connect } = require('node:net')
const { socket, path, flags, lie, query, connectAs } = JSON.parse(process.argv[1])
if (connectAs) process.seteuid(connectAs)
const connection = socket.startsWith('/') ? connect(socket) : connect(Number(socket.split(':')[1]), socket.split(':')[0])
connection.once('connect', () => {
  if (connectAs) process.seteuid(0)
  const fd = openSync(path, flags ?? 'r')
  const { dev, ino, size, mtimeNs } = fstatSync(fd, { bigint: true })
  const body = JSON.stringify({ fd, dev: String(dev), ino: String(ino), size: String(size), mtimeNs: String(mtimeNs), ...lie })
  const headers = { 'content-type': 'application/vnd.strata.descriptor+json', ...JSON.parse(process.argv[2]) }
  request({ createConnection: () => connection, method: 'POST', path: '/v1/images' + (query ?? ''), headers }, async (answer) => {
    console.log(JSON.stringify({ status: answer.statusCode, ...JSON.parse(Buffer.concat(await answer.toArray()).toString() || '{}') }))
    connection.destroy()
  }).end(body)
})
`

/** What the service answers to it. */
export function nameDescriptor(
  socket: string,
  { under = [], node = process.execPath, ...naming }: Naming,
  headers: Record<string, string> = {},
): Promise<{ status: number; code?: string; detail?: string; images?: { names: string[] }[] }> {
  const [program, ...args] = [
    ...under,
    node,
    '-e',
    CLIENT,
    JSON.stringify({ socket, ...naming }),
    JSON.stringify(headers),
  ]
  return new Promise((resolve, reject) => {
    execFile(program, args, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}${stderr}`))
      else resolve(JSON.parse(stdout) as { status: number })
    })
  })
}
