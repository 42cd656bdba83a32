import { describe, expect, it } from 'vitest'
import { defaultSeccomp, type LinuxSeccomp } from './seccomp.js'
import { DEFAULT_CAPABILITIES } from '../runtime/spec.js'

const KERNEL = '6.1.0-18-amd64'
const profile = (...more: string[]) => defaultSeccomp('x86_64', [...DEFAULT_CAPABILITIES, ...more], KERNEL)
const rules = (seccomp: LinuxSeccomp, name: string) => seccomp.syscalls.filter((rule) => rule.names.includes(name))
const allows = (seccomp: LinuxSeccomp, name: string) =>
  rules(seccomp, name).some((rule) => rule.action === 'SCMP_ACT_ALLOW' && !rule.args)

describe('the default policy', () => {
  it('allows what the field allows, each call once, and nothing else', () => {
    const seccomp = profile()
    expect(seccomp).toMatchObject({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 1,
      architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    })
    const always = seccomp.syscalls[0]?.names ?? []
    expect(always).toHaveLength(361)
    expect(new Set(always).size).toBe(361)
    for (const name of [
      'read',
      'execve',
      'openat2',
      'chroot',
      'arch_prctl',
      'ptrace',
      'futex_time64',
      'chown32',
      'mq_timedsend_time64',
    ])
      expect([name, allows(seccomp, name)]).toEqual([name, true])
    for (const name of [
      'mount',
      'umount2',
      'bpf',
      'keyctl',
      'add_key',
      'unshare',
      'setns',
      'kexec_load',
      'init_module',
      'userfaultfd',
      'io_uring_setup',
      'perf_event_open',
      'reboot',
      'open_by_handle_at',
      'clock_settime',
      'pivot_root',
      'move_mount',
      'fsopen',
      'syslog',
      'swapon',
      'socket',
      'personality',
      'clone',
      'clone3',
    ]) {
      expect([name, allows(seccomp, name)]).toEqual([name, false])
    }
  })

  it('opens calls to those who hold the capability', () => {
    expect(allows(profile('CAP_SYS_ADMIN'), 'mount')).toBe(true)
    expect(allows(profile('CAP_SYS_ADMIN'), 'clone3')).toBe(true)
    expect(allows(profile('CAP_BPF'), 'bpf')).toBe(true)
    expect(allows(profile('CAP_SYS_TIME'), 'clock_settime64')).toBe(true)
    expect(allows(profile('CAP_SYS_ADMIN'), 'keyctl')).toBe(false)
    expect(allows(defaultSeccomp('x86_64', [], KERNEL), 'chroot')).toBe(false)
  })

  it('lets clone make no namespaces, and says that there is no clone3', () => {
    expect(rules(profile(), 'clone')).toEqual([
      {
        names: ['clone'],
        action: 'SCMP_ACT_ALLOW',
        args: [{ index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
      },
    ])
    expect(rules(profile(), 'clone3')).toEqual([{ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 }])
  })

  it('knows which sockets: not AF_ALG and AF_VSOCK', () => {
    const args = rules(profile(), 'socket').map((rule) => rule.args?.[0])
    const passes = (family: number) =>
      args.some(
        (arg) =>
          arg && (arg.op === 'SCMP_CMP_EQ' ? family === arg.value : arg.op === 'SCMP_CMP_LT' && family < arg.value),
      )
    for (const [family, passed] of [
      [1, true],
      [2, true],
      [10, true],
      [16, true],
      [17, true],
      [44, true],
      [38, false],
      [40, false],
      [2 ** 32 + 40, false],
      [46, false],
    ] as const)
      expect([family, passes(family)]).toEqual([family, passed])
  })

  it('depends on processor and kernel', () => {
    const arm = defaultSeccomp('aarch64', DEFAULT_CAPABILITIES, KERNEL)
    expect(arm.architectures).toEqual(['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'])
    expect([allows(arm, 'arch_prctl'), allows(arm, 'set_tls')]).toEqual([false, true])
    expect(allows(defaultSeccomp('x86_64', DEFAULT_CAPABILITIES, '4.7.9'), 'ptrace')).toBe(false)
    expect(allows(defaultSeccomp('x86_64', DEFAULT_CAPABILITIES, '4.10.0'), 'ptrace')).toBe(true)
  })
})
