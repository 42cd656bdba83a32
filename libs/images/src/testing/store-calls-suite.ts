import { digestOf, MEDIA, type Repository } from '@strata/oci'
import { keys, RepositoryBlobs, RepositoryNames, type ObjectStore } from '@strata/store'
import { counted, type Calls } from '@strata/store/testing'
import { expect, it } from 'vitest'
import { Images } from '../images.js'
import { Names } from '../names.js'
import { artifactOf, imageOf, indexOf, PushingClient, repositoryOf, tagOf } from './pushing-client.js'

const AT_ONCE = 50
const app = repositoryOf('team/app')

/**
 * Every operation of `Repositories` makes the same store calls with `few` others stored and with
 * `many`: tags, manifests, referrers, blobs and repositories.
 */
export function storeCallsSuite(
  kind: string,
  open: () => Promise<{ readonly store: ObjectStore; readonly dispose: () => Promise<void> }>,
  {
    few,
    many,
    joined = 0,
  }: {
    readonly few: number
    readonly many: number
    /**
     * Holds of one put that come together are one read and one write. Whether they do depends on
     * the speed of a server: so many may be more or fewer.
     */
    readonly joined?: number
  },
): void {
  it(`${kind}: each operation makes the same store calls with ${few} others stored and with ${many}`, async () => {
    const { store: plain, dispose } = await open()
    const { store, calls } = counted(plain)
    try {
      await new Images(store).markNames()
      const client = new PushingClient(store)
      const { repositories } = client
      const image = imageOf(['one', 'two'])
      const subject = image.manifest.digest
      const index = indexOf([image])
      const signature = artifactOf('signature', 'text/plain', {
        subject: { digest: subject, size: 1, mediaType: MEDIA.manifest },
      })
      const cost = async (work: () => Promise<unknown>): Promise<Calls> => {
        calls()
        await work()
        return calls()
      }
      const costs = async (): Promise<Record<string, Calls>> => ({
        push: await cost(() => client.push(app, image, 'one')),
        pushAgain: await cost(() => client.push(app, image, 'one')),
        pushIndex: await cost(() => client.push(app, index, 'index')),
        pushReferrer: await cost(() => client.push(app, signature)),
        manifest: await cost(() => repositories.manifests.get(app, subject)),
        stat: await cost(() => repositories.manifests.stat(app, subject)),
        noManifest: await cost(() => repositories.manifests.stat(app, digestOf('none'))),
        tag: await cost(() => repositories.tags.get(app, tagOf('one'))),
        noTag: await cost(() => repositories.tags.get(app, tagOf('none'))),
        blob: await cost(() => repositories.blobs.has(app, image.id)),
        noBlob: await cost(() => repositories.blobs.has(app, digestOf('none'))),
        resolve: await cost(() => new Images(store).resolve(`team/app@${subject}`)),
        tags: await cost(() => repositories.tags.page(app, 2, 'o')),
        manifests: await cost(() => repositories.manifests.page(app, 2)),
        catalog: await cost(() => repositories.page(2)),
        referrers: await cost(() => repositories.referrers.page(app, subject, 1)),
        untag: await cost(() => repositories.tags.delete(app, tagOf('index'))),
        rmi: await cost(() =>
          new Images(store).remove({ ref: 'team/app:one', force: false, inUse: () => Promise.resolve(false) }),
        ),
        deleteReferrer: await cost(() => repositories.manifests.delete(app, signature.manifest.digest)),
        delete: await cost(() => repositories.manifests.delete(app, index.manifest.digest)),
        deleteBlob: await cost(() => repositories.blobs.delete(app, image.id)),
      })
      await client.under((run) => fill(store, app, 0, few, subject, run.lease))
      // Records that come and go leave tombstones on some stores: from now on all rounds are alike.
      await costs()
      const before = await costs()
      expect(before['stat']).toEqual({ read: 1 })
      expect(before['tag']).toEqual({ read: 1 })
      expect(before['blob']).toEqual({ read: 1 })
      expect(before['tags']).toEqual({ list: 1, listed: 3 })
      expect(before['referrers']).toMatchObject({ list: 1, read: 1 })
      await client.under((run) => fill(store, app, few, many, subject, run.lease))
      const after = await costs()
      expect(mapValues(after, withoutJoined)).toEqual(mapValues(before, withoutJoined))
      for (const [name, { read = 0, replace = 0 }] of Object.entries(after)) {
        const { read: readBefore = 0, replace: replaceBefore = 0 } = before[name]!
        expect(Math.abs(read - readBefore), `${name}: reads`).toBeLessThanOrEqual(joined)
        expect(Math.abs(replace - replaceBefore), `${name}: writes`).toBeLessThanOrEqual(joined)
      }
    } finally {
      await dispose()
    }
  }, 300_000)
}

function withoutJoined(calls: Calls): Calls {
  return Object.fromEntries(Object.entries(calls).filter(([verb]) => verb !== 'read' && verb !== 'replace'))
}

function mapValues<T>(values: Record<string, T>, change: (value: T) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]))
}

/** So many tags, manifests, referrers and blobs of the repository, and repositories. */
async function fill(
  store: ObjectStore,
  repository: Repository,
  from: number,
  to: number,
  subject: ReturnType<typeof digestOf>,
  lease: string,
): Promise<void> {
  const [names, blobs, repositories] = [new Names(store), new RepositoryBlobs(store), new RepositoryNames(store)]
  for (let at = from; at < to; at += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, to - at) }, (_, i) => at + i)
    const digestAt = (number: number) => digestOf(`manifest ${number}`)
    await blobs.add(repository, numbers.map(digestAt), lease)
    await Promise.all(
      numbers.map(async (number) => {
        const digest = digestAt(number)
        const manifest = { digest, mediaType: MEDIA.manifest, manifestSize: 1, kept: 'digest' as const }
        const attached = { subject, annotations: {} }
        await names.write(keys.imageDigest(repository, digest), { ...manifest, attached }, undefined)
        await names.write(keys.tag(repository, tagOf(`p${number}`)), manifest, undefined)
        await repositories.add(repositoryOf(`many/${number}`))
      }),
    )
  }
}
