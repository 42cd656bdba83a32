import { indexMemoryShape, packedLimitsShape } from '@strata/archive'
import { sparseImagesShape } from '@strata/images'
import { DEFAULT_READERS, INTAKE_LIMITS } from '@strata/intake'
import { MAX_JSON_BYTES } from '@strata/oci'
import { absolutePath, apiConfigShape, hostPort, serviceConfigShape } from '@strata/platform'
import {
  blobLimitShape,
  checkPublicReads,
  checkStoreConfig,
  publicReadsShape,
  pushTimesShape,
  storeConfigShape,
} from '@strata/store'
import { z } from 'zod'

/** The gateway's environment. */
export const gatewayConfigSchema = z
  .object({
    ...serviceConfigShape,
    ...storeConfigShape,
    ...publicReadsShape,
    ...apiConfigShape,
    STRATA_SOCKET: absolutePath
      .optional()
      .describe('The unix socket to listen on; access is by its file mode (0660, group strata where there is one)'),
    STRATA_LISTEN: hostPort
      .optional()
      .describe('HOST:PORT to listen on; every request needs the token there, but for /docs and /v1/health/*'),
    STRATA_TOKEN_FILE: absolutePath
      .optional()
      .describe('The file of the token of STRATA_LISTEN; the same token for all gateways'),
    STRATA_NODE_SECRET_FILE: absolutePath.describe('The file of the secret that all gateways and nodes share'),
    STRATA_FILES_MEMORY: z.coerce
      .number()
      .int()
      .min(1)
      .max(65_536)
      .default(160)
      .describe(
        'MiB for the views of images whose files are asked for, kept or in use; a view takes about 130 bytes an entry. An image that alone needs more is not shown',
      ),
    STRATA_PREPARE: z
      .stringbool()
      .default(true)
      .describe('Whether a load assembles the root of the image too, where the client does not say'),
    STRATA_INDEX_ON_PUSH: z
      .stringbool()
      .default(true)
      .describe(
        'Whether the layers of a pushed image are extracted behind the push, so that its files are listed and its containers start without waiting for it. Takes the unpacked size on one node',
      ),
    STRATA_MAX_ARCHIVE_BYTES: z.coerce
      .number()
      .int()
      .min(1)
      .max(2 ** 50)
      .default(INTAKE_LIMITS.bytes)
      .describe('Limit: bytes of an archive, unpacked'),
    STRATA_MAX_ARCHIVE_ENTRIES: z.coerce
      .number()
      .int()
      .min(1)
      .max(1_000_000)
      .default(INTAKE_LIMITS.entries)
      .describe('Limit: entries of an archive, not of its layers'),
    STRATA_UPLOAD_IDLE_MS: z.coerce
      .number()
      .int()
      .min(1)
      .max(3_600_000)
      .default(INTAKE_LIMITS.idleMs)
      .describe('Limit: how long a client may send nothing of a body, in milliseconds'),
    STRATA_READERS: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(DEFAULT_READERS)
      .describe(
        'Pairs of threads that read what clients send; uploads share them by turns. One more reads files of this machine only',
      ),
    STRATA_MAX_UPLOADS: z.coerce
      .number()
      .int()
      .min(1)
      .max(10_000)
      .default(32)
      .describe(
        'Limit: bodies of archives that are open at once; as many loads of files of this machine may be. The next one is refused with 503. One whose bytes have not begun to be read takes 0.3 MiB',
      ),
    STRATA_MAX_PUSHES: z.coerce
      .number()
      .int()
      .min(1)
      .max(10_000)
      .default(100)
      .describe(
        'Limit: bodies of chunks and blobs that clients of the registry send at once. The next one is refused with 503',
      ),
    STRATA_MAX_PUSH_UPLOADS: z.coerce
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(5_000)
      .describe(
        'Limit: uploads of the registry that this gateway has begun and that have not ended. The next one is refused with 503',
      ),
    STRATA_PUSH_MIN_RATE: z.coerce
      .number()
      .int()
      .min(0)
      .max(2 ** 30)
      .default(1_024)
      .describe(
        'Limit: bytes a second that a client of the registry has to send of a chunk or blob, on the average of STRATA_UPLOAD_IDLE_MS; 0 for any',
      ),
    ...blobLimitShape,
    STRATA_MAX_MANIFEST_BYTES: z.coerce
      .number()
      .int()
      .min(1)
      .max(MAX_JSON_BYTES)
      .default(MAX_JSON_BYTES)
      .describe('Limit: bytes of a manifest that is pushed'),
    ...pushTimesShape,
    STRATA_MANIFEST_MEMORY: z.coerce
      .number()
      .int()
      .min(5)
      .max(65_536)
      .default(32)
      .describe(
        'Limit: MiB of the manifests and lists that are being sent to clients of the registry, and of manifests that were sent last. A request whose answer does not fit is refused with 503',
      ),
    ...sparseImagesShape,
    ...packedLimitsShape,
    ...indexMemoryShape,
  })
  .refine((config) => config.STRATA_SOCKET !== undefined || config.STRATA_LISTEN !== undefined, {
    path: ['STRATA_LISTEN'],
    error: 'the gateway has no listener: set STRATA_LISTEN or STRATA_SOCKET',
    when: () => true,
  })
  .refine((config) => config.STRATA_LISTEN === undefined || config.STRATA_TOKEN_FILE !== undefined, {
    path: ['STRATA_TOKEN_FILE'],
    error: 'is needed with STRATA_LISTEN',
    when: () => true,
  })
  .check(checkStoreConfig)
  .check(checkPublicReads)
export type GatewayConfig = z.infer<typeof gatewayConfigSchema>
export const GATEWAY_CONFIG = Symbol('gateway config')
/** The gateway's `ServiceMetrics`. */
export const METRICS = Symbol('metrics')
