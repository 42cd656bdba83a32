import { channel } from 'node:diagnostics_channel'

/**
 * The failpoints: named points in the code, each directly behind a durable change that another
 * process can see. A process that dies there leaves a different state than one that dies before.
 * They are listed in the order in which a request passes them.
 */
export const FAILPOINTS = [
  // Load, in the gateway: from the first byte to the queued job.
  'load.journal-made',
  'load.upload-made',
  'load.first-bytes',
  'load.received',
  'load.queued',
  // Load, in the ingest service. `children-added` is passed once for each round of them (extract,
  // then place), `name-set` once a name, `named` when all are set and before the request is
  // answered.
  'load.listed',
  'load.blobs-committed',
  'load.children-added',
  'load.committing',
  'load.manifest-written',
  'load.name-set',
  'load.named',
  'load.completed',
  'load.upload-ended',
  // Load, in the storage service: an upload that nobody keeps alive is over, what it brought is
  // still there.
  'load.abandoned',
  // A push, in the gateway: a chunk is recorded; the last one is, and what the upload becomes; its
  // blob is there; it is held for who pushes; the upload has ended.
  'push.chunk-recorded',
  'push.committing',
  'push.committed',
  'push.held',
  'push.upload-ended',
  // A pull: in the gateway; then in the ingest service. `resolved`: which manifest it is, is
  // recorded; `upload-noted`: which upload brings a blob, is recorded (the steps of a push follow);
  // `blob-held`, once a blob; `received`: all are here. After that come the steps of a load from
  // `children-added` on.
  'pull.lease-made',
  'pull.queued',
  'pull.resolved',
  'pull.upload-noted',
  'pull.blob-held',
  'pull.received',
  // A layer made usable on a node, by its extractor. `fetched`: the bytes are in the node's
  // temporary folder; `renaming`: all is ready but the name.
  'extract.fetched',
  'extract.index-kept',
  'extract.proven',
  'extract.renaming',
  'extract.renamed',
  // An image's root on a node. `made`: all is ready but the name.
  'assemble.made',
  'assemble.committed',
  // A container's launch, in the gateway: until the job is queued.
  'launch.name-claimed',
  'launch.queued',
  // In the runtime. `claimed`: its id is this node's; `recorded`: it is on the node's disk;
  // `placed`: the launch is queued there; `numbered`: this start is on disk, before the runtime
  // hears of it.
  'launch.claimed',
  'launch.recorded',
  'launch.placed',
  'launch.numbered',
  'launch.prepared',
  'launch.created',
  'launch.started',
  'launch.running-recorded',
  'launch.exit-recorded',
  'launch.cleaned',
  // A container that is created and not started: its record says that it waits for a start.
  'create.recorded',
  // A start of such a container, or of one that has exited: in the gateway, until the job is
  // queued; then on its node, where the record names the request. After that come the steps of a
  // launch from `numbered` on.
  'start.journal-made',
  'start.queued',
  'start.bound',
  // An image's names go, one after another; a container: tombstone, root, record.
  'remove.name-retired',
  'remove.container-buried',
  'remove.root-removed',
  'remove.record-dropped',
  // A collection: in the gateway, then in the order of its protocol (see the collector).
  // `tombstoned` and `bytes-deleted` are passed once a blob or batch.
  'collect.journal-made',
  'collect.blobs-listed',
  'collect.uploads-listed',
  'collect.references-read',
  'collect.tombstoned',
  'collect.bytes-deleted',
  // Its part on a node, once a root or layer.
  'clean.root-removed',
  'clean.layer-removed',
  // A service's start: data of an older version are brought to this release's. `changed` is passed
  // once for each durable change of a migration.
  'migrate.locked',
  'migrate.changed',
  'migrate.ran',
  'migrate.noted',
] as const
export type Failpoint = (typeof FAILPOINTS)[number]

/**
 * A message of the channel of `node:diagnostics_channel`. `of` is the id of the request that passed
 * the failpoint, if a request did.
 */
interface PassedFailpoint {
  readonly failpoint: Failpoint
  readonly of?: string | undefined
}
export const FAILPOINT_CHANNEL = 'strata:failpoint'
const passed = channel(FAILPOINT_CHANNEL)

/**
 * Passes a failpoint. Without a subscriber this is one comparison. A subscriber runs before the
 * caller's next line, so it can stop the process right there.
 */
export function failpoint(name: Failpoint, of?: string): void {
  if (passed.hasSubscribers) passed.publish({ failpoint: name, of } satisfies PassedFailpoint)
}
