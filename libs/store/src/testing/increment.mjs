// A process of the folder store's test: adds 1 to the number at a key, N times, by compare-and-set.
//     node --experimental-transform-types --conditions=@strata/source increment.mjs ROOT KEY N
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
const { FolderStore } = await import('../folder/folder-store.ts')
const { mendTail } = await import('../mend-tail.ts')
const [root, key, times] = process.argv.slice(2)
const store = await FolderStore.open(root, mendTail, { sync: () => Promise.resolve() })
for (let done = 0; done < Number(times);) {
  const { bytes, etag } = await store.read(key, 100)
  if (await store.replace(key, Buffer.from(String(Number(bytes.toString()) + 1)), etag)) done++
}
await store.close()
