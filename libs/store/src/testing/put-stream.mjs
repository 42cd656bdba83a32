// A process of the S3 driver's test: puts MIB mebibytes, as a stream of one buffer that is used
// again and again; writes how much its resident memory grew at most, in bytes.
//     node --experimental-transform-types --conditions=@strata/source put-stream.mjs CONFIG KEY MIB
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

// The sources' imports end in `.js`, as the compiler wants them; run from source, the file is a
// `.ts`.
registerHooks({
  resolve: (specifier, context, next) =>
    next(
      specifier.startsWith('.') && context.parentURL?.endsWith('.ts') ? specifier.replace(/\.js$/, '.ts') : specifier,
      context,
    ),
})
const { S3Store } = await import('../s3/s3-store.ts')
const [config, key, mebibytes] = process.argv.slice(2)
const store = await S3Store.open(JSON.parse(config))
const before = process.memoryUsage.rss()
async function* source() {
  const buffer = randomBytes(1024 * 1024)
  for (let i = 0; i < Number(mebibytes); i++) {
    buffer.writeUInt32LE(i)
    yield buffer
  }
}
await store.put(key, source())
await store.close()
const peak = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024
process.stdout.write(String(peak - before))
