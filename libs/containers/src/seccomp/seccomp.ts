import * as table from './table.js'

/** runtime-spec, config-linux.md, "Seccomp": the members that are used here. */
export interface LinuxSeccomp {
  readonly defaultAction: 'SCMP_ACT_ERRNO'
  readonly defaultErrnoRet: number
  readonly architectures: readonly string[]
  readonly syscalls: readonly SeccompRule[]
}
interface SeccompRule {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO'
  readonly errnoRet?: number
  readonly args?: readonly {
    readonly index: number
    readonly value: number
    readonly valueTwo?: number
    readonly op: 'SCMP_CMP_EQ' | 'SCMP_CMP_LT' | 'SCMP_CMP_MASKED_EQ'
  }[]
}
export type SeccompArch = 'x86_64' | 'aarch64'

const EPERM = 1
const ENOSYS = 38
/** The native one first, then those whose programs it runs too. */
const ARCHITECTURES: Record<SeccompArch, readonly string[]> = {
  x86_64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  aarch64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
}

/** The names of a table's text, `a{64}` as `a a64`. */
function names(text: string): string[] {
  return text
    .trim()
    .split(/\s+/)
    .flatMap((word) => {
      const brace = word.indexOf('{')
      return brace < 0 ? [word] : [word.slice(0, brace), word.slice(0, brace) + word.slice(brace + 1, -1)]
    })
}

const allow = (text: string): SeccompRule => ({ names: names(text), action: 'SCMP_ACT_ALLOW' })
const allowIf = (name: string, op: 'SCMP_CMP_EQ' | 'SCMP_CMP_LT', value: number): SeccompRule => ({
  names: [name],
  action: 'SCMP_ACT_ALLOW',
  args: [{ index: 0, value, op }],
})

/**
 * The default policy for a process with these bounding capabilities.
 * @param kernel `uname -r`, for the calls that are safe from a version on
 */
export function defaultSeccomp(arch: SeccompArch, capabilities: readonly string[], kernel: string): LinuxSeccomp {
  const admin = capabilities.includes('CAP_SYS_ADMIN')
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures: ARCHITECTURES[arch],
    syscalls: [
      allow(table.ALWAYS),
      ...(kernelAtLeast(kernel, 4, 8) ? [allow(table.FROM_KERNEL_4_8)] : []),
      allowIf('socket', 'SCMP_CMP_LT', table.SOCKET_FAMILIES_BELOW),
      ...table.SOCKET_FAMILIES.map((family) => allowIf('socket', 'SCMP_CMP_EQ', family)),
      ...table.PERSONALITIES.map((value) => allowIf('personality', 'SCMP_CMP_EQ', value)),
      allow(table.BY_ARCH[arch]),
      ...Object.entries(table.BY_CAPABILITY)
        .filter(([capability]) => capabilities.includes(capability))
        .map(([, calls]) => allow(calls)),
      ...(admin
        ? []
        : [
            {
              names: ['clone'],
              action: 'SCMP_ACT_ALLOW',
              args: [{ index: 0, value: table.CLONE_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
            } as const,
            // A filter cannot look into clone3's struct. ENOSYS, so that libc falls back to clone;
            // EPERM would end the program.
            { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS } as const,
          ]),
    ],
  }
}

function kernelAtLeast(release: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = release.split('.').map((part) => Number.parseInt(part, 10))
  return a > major || (a === major && b >= minor)
}
