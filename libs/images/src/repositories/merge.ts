import { isPlain, type RecordedManifest, type Whole } from '../image.js'
import { expectParts, unitedParts, unitedRecord } from '../whole.js'

/** Joins what two puts say of one manifest. Gives `before` itself if the other adds nothing. */
export function mergedRecords(before: RecordedManifest, record: RecordedManifest): RecordedManifest {
  if (!isPlain(before)) {
    if (!isPlain(record)) return unitedRecord(before, record)
    // What has a subject is found by it, and for that it must be plain.
    return record.kept === 'tag' && !record.attached ? before : withParts(record, before.whole)
  }
  if (before.kept === 'digest') return withParts(before, record.whole)
  if (!isPlain(record)) return before.attached ? withParts(before, record.whole) : withParts(record, before.whole)
  return record.kept === 'digest' ? withParts(record, before.whole) : withParts(before, record.whole)
}

/** Adds parts to a record. Gives `record` itself if it has all of them. */
export function withParts<T extends RecordedManifest>(record: T, parts: Whole | undefined): T {
  const whole = unitedParts(record.whole, parts)
  if (!whole || whole === record.whole) return record
  expectParts(record.digest, whole)
  return { ...record, whole: { ...whole, manifest: record.whole?.manifest ?? whole.manifest } }
}

/** Joins what a tag carries and what it must carry. @throws StrataError `limit_exceeded` */
export function mergedTags(before: RecordedManifest, record: RecordedManifest): RecordedManifest {
  if (!isPlain(before) && !isPlain(record)) return unitedRecord(before, record)
  if (!isPlain(record)) return record
  return isPlain(before) ? withParts(before, record.whole) : before
}
