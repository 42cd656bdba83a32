import { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { INDEX_MEMORY } from '@strata/archive'
import { IndexMemory } from '@strata/layers'
import { localObjects, type ObjectStore } from '@strata/store'
import type { Destination } from './destinations/destination.js'
import { LocalDestination } from './destinations/local-destination.js'
import { ObjectDestination } from './destinations/object-destination.js'
import { LARGE } from './destinations/placement.js'
import type { Received, ReceiveOptions } from './receive-options.js'
import { FileSource, isAsKept, streamOf, type ArchiveFile } from './sources/file-source.js'
import { SocketSource } from './sources/socket-source.js'
import type { Source } from './sources/source.js'
import { StreamSource } from './sources/stream-source.js'
import { Readers, type Lane } from './threads/readers.js'
import { UploadSession } from './upload-session.js'

export interface Intake {
  /**
   * Takes in an archive, plain or packed by gzip, zstd, bzip2 or xz, as it comes: every file of it
   * is hashed and written once, what is a plain tar is indexed in flight (`index/v1/…`), and the
   * list of all is written last. Memory is flat. The body is neither destroyed nor drained when it
   * is refused. A request's socket may be taken from Node for that: its connection must not be used
   * again (`Connection: close`), and of a refused one `bytesLeft` are to be drained.
   *
   * Rejects, with nothing of the upload left in the store: `archive_truncated`, `archive_invalid`,
   * `unsupported` (a sparse file), `limit_exceeded`, `storage_full`, `store_unavailable`,
   * `upload_interrupted` (client gone or silent). An aborted `signal` rejects with its reason if
   * that is a StrataError, else with `cancelled`.
   */
  receive(body: Readable, options: ReceiveOptions): Promise<Received>
  /**
   * The same for a file, which is read at any place, by several threads at once. It stays open, and
   * the caller's to close, once this has settled. A file that somebody writes to meanwhile comes in
   * as anything or nothing, but never with a digest that is not its bytes'; the caller sees to it
   * whether it was changed. Rejects also with `archive_changed`: it became shorter.
   */
  receiveFile(file: ArchiveFile, options: ReceiveOptions): Promise<Received>
  /** Ends the threads. Abort and await what is under way first. */
  close(): Promise<void>
}

export interface IntakeOptions {
  readonly store: ObjectStore
  /** Pairs of threads that read what clients send. One more reads files only. */
  readonly readers?: number
  /** Of the process, for the indexes of layers. */
  readonly memory?: IndexMemory
}

export const DEFAULT_READERS = 3

/**
 * A store whose objects are files has them written in place by threads; to another one they go as
 * streams, from this thread.
 */
export function createIntake(options: IntakeOptions): Intake {
  const { store, readers: count = DEFAULT_READERS, memory = new IndexMemory(INDEX_MEMORY) } = options
  const local = localObjects(store)
  const readers = new Readers(count, memory, local ? ['writer', 'hasher'] : ['hasher'])
  const destination = (upload: string): Destination =>
    local ? new LocalDestination(local, upload) : new ObjectDestination(store, upload)
  const receiveBy = (lane: Lane, source: Source, receive: ReceiveOptions): Promise<Received> =>
    new UploadSession(store, destination(receive.upload), source, receive).run(readers.open(lane))
  return {
    receive: (body, receive) =>
      receiveBy(
        'upload',
        (local && body instanceof IncomingMessage && SocketSource.for(body)) || new StreamSource(body),
        receive,
      ),
    receiveFile: async (file, receive) => {
      const { whole = false } = receive
      // A small file alone has an object of its own here as well, which the plan of a file gives to
      // large ones only.
      if (local && (!whole || file.size >= LARGE) && (await isAsKept(file, whole)))
        return receiveBy('file', new FileSource(file, memory), receive)
      const stream = streamOf(file)
      return receiveBy('file', new StreamSource(stream.body), receive).finally(() => stream.close())
    },
    close: () => readers.close(),
  }
}
