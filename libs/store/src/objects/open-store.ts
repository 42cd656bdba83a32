import { readFileSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import { FolderVersion } from '@strata/linux'
import { BucketVersion } from './bucket-version.js'
import { FolderStore } from '../folder/folder-store.js'
import { mendTail } from '../mend-tail.js'
import { migrateStore } from './migrations.js'
import type { S3Config } from '../s3/s3-client.js'
import type { ObjectStore, PresignedReads } from './object-store.js'
import { observedStore, type StoreObserver } from './observed-store.js'

/** The injection token of the process's `ObjectStore`. */
export const OBJECT_STORE = Symbol('object store')

const BUCKET = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])$/
const nonEmpty = z.string().min(1)

/**
 * The variables that say where the store is. A service spreads them into its own schema and adds
 * `checkStoreConfig`.
 */
export const storeConfigShape = {
  STRATA_STORE: z
    .string()
    .refine((text) => isAbsolute(text) || BUCKET.test(text), "must be a folder's absolute path or s3://BUCKET")
    // So Node.js reads what is not UTF-8: a folder of another name.
    .refine((text) => !text.includes('\ufffd'), 'must be UTF-8')
    .describe("The object store: a folder's absolute path, or s3://BUCKET. The same for all services"),
  STRATA_S3_ENDPOINT: z
    .string()
    .refine(isOrigin, 'must be http://HOST[:PORT] or https://HOST[:PORT], with nothing behind')
    .optional()
    .describe('The S3 server: http://HOST[:PORT] or https://HOST[:PORT]. Needed with s3://'),
  STRATA_S3_REGION: nonEmpty.default('us-east-1').describe('The region of the bucket'),
  STRATA_S3_ACCESS_KEY: nonEmpty.optional().describe('Access key. Needed with s3://'),
  STRATA_S3_SECRET_KEY: nonEmpty
    .optional()
    .describe('Secret key. With s3://, this or STRATA_S3_SECRET_KEY_FILE is needed'),
  STRATA_S3_SECRET_KEY_FILE: nonEmpty.optional().describe('File that holds the secret key'),
}
export type StoreConfig = z.infer<z.ZodObject<typeof storeConfigShape>>

/**
 * Checks the variables that `s3://` needs in addition. It runs also if other variables are invalid,
 * so that all faults are reported at once. So its input may have any form.
 */
export const checkStoreConfig = z.superRefine<StoreConfig>(
  (config, context) => {
    const missing = (variable: keyof StoreConfig, message: string): void => {
      if (config[variable] === undefined) context.addIssue({ code: 'custom', path: [variable], message })
    }
    if (typeof config.STRATA_STORE !== 'string' || !config.STRATA_STORE.startsWith('s3://')) return
    missing('STRATA_S3_ENDPOINT', 'is needed, since STRATA_STORE is s3://')
    missing('STRATA_S3_ACCESS_KEY', 'is needed, since STRATA_STORE is s3://')
    const { STRATA_S3_SECRET_KEY: key, STRATA_S3_SECRET_KEY_FILE: file } = config
    if (file === undefined)
      missing('STRATA_S3_SECRET_KEY', 'is needed, or STRATA_S3_SECRET_KEY_FILE, since STRATA_STORE is s3://')
    else if (key !== undefined)
      context.addIssue({
        code: 'custom',
        path: ['STRATA_S3_SECRET_KEY_FILE'],
        message: 'cannot be given together with STRATA_S3_SECRET_KEY',
      })
  },
  { when: () => true },
)

/** The variables of a service whose clients may read from the S3 server themselves. */
export const publicReadsShape = {
  STRATA_S3_PUBLIC_ENDPOINT: z
    .string()
    .refine(isOrigin, 'must be http://HOST[:PORT] or https://HOST[:PORT], with nothing behind')
    .optional()
    .describe(
      "The S3 server as clients reach it, http[s]://HOST[:PORT]: a pull of a blob is answered with 307 to an address there, signed for this blob alone. Not the gateway's host as clients know it, nor one below that, which would get the token. With s3:// only",
    ),
  STRATA_S3_PUBLIC_SECONDS: z.coerce
    .number()
    .int()
    .min(1)
    .max(7 * 86_400)
    .default(1_200)
    .describe(
      'Limit: how long an address at STRATA_S3_PUBLIC_ENDPOINT is valid, in seconds; a download that has begun goes on',
    ),
}
type PublicReadsConfig = z.infer<z.ZodObject<typeof publicReadsShape>>

/** Like `checkStoreConfig`, for the variables of `publicReadsShape`. */
export const checkPublicReads = z.superRefine<StoreConfig & PublicReadsConfig>(
  (config, context) => {
    const { STRATA_S3_PUBLIC_ENDPOINT: endpoint, STRATA_STORE: place } = config
    if (endpoint === undefined || typeof place !== 'string' || place.startsWith('s3://')) return
    context.addIssue({
      code: 'custom',
      path: ['STRATA_S3_PUBLIC_ENDPOINT'],
      message: 'cannot be given, since STRATA_STORE is a folder: remove it',
    })
  },
  { when: () => true },
)

/** Addresses at the public endpoint of a valid configuration; `undefined` if it names none. */
export async function openPublicReads(config: StoreConfig & PublicReadsConfig): Promise<PresignedReads | undefined> {
  const server = serverOf(config)
  if (server === undefined || config.STRATA_S3_PUBLIC_ENDPOINT === undefined) return undefined
  const { publicReads } = await import('../s3/public-reads.js')
  return publicReads({ ...server, endpoint: config.STRATA_S3_PUBLIC_ENDPOINT })
}

/**
 * The store that a valid configuration names, ready for use. Its data have the version that this
 * release knows (migrations.ts). `warn` gets a sentence for each image and upload that a loss of
 * power has taken from a folder (mend-tail.ts), and for other faults that do not stop the start; by
 * default it is a process warning. `observe` gets every call of the store, for metrics.
 * @throws StrataError `data_newer` if a newer release has used the store
 */
export async function openStore(
  config: StoreConfig,
  warn?: (message: string) => void,
  observe?: StoreObserver,
): Promise<ObjectStore> {
  const store = await openPlain(config, warn)
  return observe ? observedStore(store, observe) : store
}

async function openPlain(config: StoreConfig, warn?: (message: string) => void): Promise<ObjectStore> {
  const server = serverOf(config)
  const tell = warn ?? ((message: string) => process.emitWarning(message))
  if (server === undefined) {
    const folder = config.STRATA_STORE
    const version = new FolderVersion('the store', folder)
    return migrated(await FolderStore.open(folder, mendTail, { warn: tell }), (store) =>
      migrateStore(version, store, tell),
    )
  }
  // The S3 client has some hundred modules. A process with a folder store does not load them.
  const { S3Store } = await import('../s3/s3-store.js')
  return migrated(await S3Store.open(server, { warn: tell }), (store) =>
    migrateStore(new BucketVersion(`the bucket ${server.bucket} of ${server.endpoint}`, store), store, tell),
  )
}

/** The S3 server of a valid configuration; `undefined` if the store is a folder. */
function serverOf(config: StoreConfig): S3Config | undefined {
  const bucket = BUCKET.exec(config.STRATA_STORE)?.[1]
  if (bucket === undefined) return undefined
  const { STRATA_S3_ENDPOINT: endpoint, STRATA_S3_REGION: region, STRATA_S3_ACCESS_KEY: accessKey } = config
  return { endpoint: endpoint!, region, accessKey: accessKey!, secretKey: secretKey(config), bucket }
}

async function migrated<S extends ObjectStore>(store: S, bring: (store: S) => Promise<void>): Promise<S> {
  try {
    await bring(store)
    return store
  } catch (error) {
    await store.close()
    throw error
  }
}

function secretKey({ STRATA_S3_SECRET_KEY: key, STRATA_S3_SECRET_KEY_FILE: file }: StoreConfig): string {
  if (file === undefined) return key!
  let text: string
  try {
    text = readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new StrataError(
      'store_unavailable',
      `STRATA_S3_SECRET_KEY_FILE cannot be read: ${(error as Error).message}`,
      { cause: error },
    )
  }
  if (text === '') throw new StrataError('store_unavailable', `STRATA_S3_SECRET_KEY_FILE, ${file}, is empty`)
  return text
}

function isOrigin(text: string): boolean {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) return false
  const { href, origin } = new URL(text)
  return href === `${origin}/`
}
