import { createHash } from 'node:crypto'
import { endianness } from 'node:os'
import { bind, type NativeFunction } from '../libc.js'

/** The state of a hash, as plain data. `kind` names what can read `state`. */
export interface SavedHash {
  readonly kind: string
  /** base64 */
  readonly state: string
}

/** A hash whose state may be saved, so that another process goes on with it. */
export interface ContinuedHash {
  readonly algorithm: Name
  update(bytes: Uint8Array): void
  /** Of all bytes so far, by any process. `undefined`: not here. */
  save(): SavedHash | undefined
  /** The last call. */
  hex(): string
}

type Name = 'sha256' | 'sha512'
interface Functions {
  readonly init: NativeFunction
  readonly update: NativeFunction
  readonly final: NativeFunction
}

/**
 * Sizes of SHA256_CTX and SHA512_CTX (openssl/sha.h; their layout has not changed since 1.0), and
 * of what they make. The functions are deprecated in OpenSSL 3, and there.
 */
const CONTEXTS = {
  sha256: { contextBytes: 112, blockBytes: 64, digestBytes: 32, prefix: 'SHA256' },
  sha512: { contextBytes: 216, blockBytes: 128, digestBytes: 64, prefix: 'SHA512' },
} as const
/** Behind a context: a library with larger ones would write here. */
const GUARD_BYTES = 256

const found = new Map<Name, Functions | undefined>()

/** `undefined` where Node does not export libcrypto's functions, or they do something else. */
function functionsOf(name: Name): Functions | undefined {
  if (!found.has(name)) found.set(name, tried(name))
  return found.get(name)
}

function tried(name: Name): Functions | undefined {
  const { prefix, contextBytes } = CONTEXTS[name]
  const functions = {
    init: bind(`${prefix}_Init`, ['ptr'], 'int', null),
    update: bind(`${prefix}_Update`, ['ptr', 'ptr', 'ulong'], 'int', null),
    final: bind(`${prefix}_Final`, ['ptr', 'ptr'], 'int', null),
  }
  try {
    const [first, second] = [Buffer.alloc(100, 'a'), Buffer.alloc(300, 'b')]
    const context = begun(name, functions)
    functions.update(context, first, first.length)
    const copy = Buffer.alloc(context.length)
    context.copy(copy, 0, 0, contextBytes)
    functions.update(copy, second, second.length)
    const isUntouched = [context, copy].every((each) => each.subarray(contextBytes).every((byte) => byte === 0))
    const hex = createHash(name).update(first).update(second).digest('hex')
    return isUntouched && hexOf(name, functions, copy) === hex ? functions : undefined
  } catch {
    return undefined
  }
}

function begun(name: Name, { init }: Functions): Buffer {
  const context = Buffer.alloc(CONTEXTS[name].contextBytes + GUARD_BYTES)
  init(context)
  return context
}

function hexOf(name: Name, { final }: Functions, context: Buffer): string {
  const digest = Buffer.alloc(CONTEXTS[name].digestBytes)
  final(digest, context)
  return digest.toString('hex')
}

function kindOf(name: Name): string {
  return `${name} ${process.arch} openssl-${process.versions.openssl}`
}

class LibcryptoHash implements ContinuedHash {
  constructor(
    readonly algorithm: Name,
    private readonly functions: Functions,
    private readonly context: Buffer,
  ) {}

  update(bytes: Uint8Array): void {
    this.functions.update(this.context, bytes, bytes.length)
  }

  save(): SavedHash {
    const state = this.context.subarray(0, CONTEXTS[this.algorithm].contextBytes).toString('base64')
    return { kind: kindOf(this.algorithm), state }
  }

  hex(): string {
    return hexOf(this.algorithm, this.functions, this.context)
  }
}

/** A hash from the first byte on: one that can be saved, where that is possible. */
export function beginHash(name: Name): ContinuedHash {
  const functions = functionsOf(name)
  if (functions) return new LibcryptoHash(name, functions, begun(name, functions))
  const hash = createHash(name)
  return {
    algorithm: name,
    update: (bytes) => void hash.update(bytes),
    save: () => undefined,
    hex: () => hash.digest('hex'),
  }
}

/**
 * Goes on with a saved hash of `hashed` bytes; `undefined` if its state is of another library or
 * machine, or of another number of bytes.
 */
export function continueHash(name: Name, { kind, state }: SavedHash, hashed: number): ContinuedHash | undefined {
  const functions = functionsOf(name)
  const bytes = Buffer.from(state, 'base64')
  if (!functions || kind !== kindOf(name) || !isStateOf(name, bytes, hashed)) return undefined
  const context = begun(name, functions)
  bytes.copy(context)
  return new LibcryptoHash(name, functions, context)
}

/**
 * Whether a state says what one of so many bytes must say. C believes it: a wrong number of bytes
 * in the unfinished block makes it write outside of the context.
 *
 * The context: 8 words of the hash, the number of bits in two words (low, high), the block, the
 * bytes in the block (an int), the bytes of the digest (an int). A word of sha512 has 8 bytes.
 */
function isStateOf(name: Name, state: Buffer, hashed: number): boolean {
  const { contextBytes, blockBytes, digestBytes } = CONTEXTS[name]
  if (state.length !== contextBytes) return false
  const view = new DataView(state.buffer, state.byteOffset, state.length)
  const isLittle = endianness() === 'LE'
  const word = digestBytes / 8
  const wordAt = (at: number): bigint =>
    word === 4 ? BigInt(view.getUint32(at, isLittle)) : view.getBigUint64(at, isLittle)
  const bits = (wordAt(9 * word) << BigInt(8 * word)) | wordAt(8 * word)
  return (
    bits === BigInt(hashed) * 8n &&
    view.getUint32(contextBytes - 8, isLittle) === hashed % blockBytes &&
    view.getUint32(contextBytes - 4, isLittle) === digestBytes
  )
}
