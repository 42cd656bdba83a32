// A process of the listing's test that has a store open and changes it, as its standard input says:
// each line a JSON array, `[method, key, text]`. Each is answered with a line: the result, or the
// error's message.
//     node --experimental-transform-types --conditions=@strata/source changes.mjs ROOT [DIES_AT]
// With DIES_AT, `name,N,before|after`, it kills itself at the Nth call of that name from the first
// change on: `link`, `rename`, `renameSync`, `mkdirSync` or `rmdir`.
import fs from 'node:fs'
import promises from 'node:fs/promises'
import { registerHooks, syncBuiltinESMExports } from 'node:module'
import { createInterface } from 'node:readline'

registerHooks({
  resolve: (specifier, context, next) =>
    next(
      specifier.startsWith('.') && context.parentURL?.endsWith('.ts') ? specifier.replace(/\.js$/, '.ts') : specifier,
      context,
    ),
})
const [root, diesAt] = process.argv.slice(2)
let isArmed = false
if (diesAt !== undefined) {
  const [name, count, when] = diesAt.split(',')
  let calls = 0
  // Nothing runs after it: kill(2) delivers a signal to its own process before it returns.
  const die = () => process.kill(process.pid, 'SIGKILL')
  const object = name.endsWith('Sync') || name === 'rmdir' ? fs : promises
  const real = object[name]
  object[name] = (...args) => {
    const isIt = isArmed && ++calls === Number(count)
    if (!isIt) return real(...args)
    if (when === 'before') die()
    if (name === 'rmdir') return real(args[0], die)
    const result = real(...args)
    return result instanceof Promise ? result.then(die) : die()
  }
  syncBuiltinESMExports()
}

const { FolderStore } = await import('../folder/folder-store.ts')
const { mendTail } = await import('../mend-tail.ts')
const store = await FolderStore.open(root, mendTail, { sync: () => Promise.resolve(), boot: 'test' })
process.stdout.write('ready\n')
isArmed = true
for await (const line of createInterface({ input: process.stdin })) {
  const [method, key, text] = JSON.parse(line)
  try {
    let result
    if (method === 'create') result = await store.create(key, Buffer.from(text))
    else if (method === 'put') result = await store.put(key, Buffer.from(text))
    else if (method === 'replace') result = await store.replace(key, Buffer.from(text), (await store.stat(key)).etag)
    else if (method === 'delete') result = await store.delete([key])
    else throw new Error(`no such change: ${method}`)
    process.stdout.write(`${JSON.stringify(result ?? null)}\n`)
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: error.message })}\n`)
  }
}
await store.close()
