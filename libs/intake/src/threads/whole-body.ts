import { TarEntry, type TarSink } from '@strata/archive'

/**
 * Stands where an archive has a tar's reader, for a body that is one file: the layer of an image
 * that is made of a tree. Its length may be known at its end only.
 */
export class WholeBody {
  constructor(
    private readonly sink: TarSink,
    size = Infinity,
  ) {
    const entry = new TarEntry()
    entry.path = Buffer.from('layer.tar')
    entry.size = size
    sink.entry(entry)
  }

  write(view: Buffer): void {
    this.sink.data(view)
  }

  end(): void {
    this.sink.entryEnd()
  }
}
