/**
 * The field's default seccomp policy as a table: what moby allows in `seccomp/default.json`
 * (github.com/moby/profiles at 02e898b, 2026), grouped by what the calls are for. Everything that
 * is not here fails with EPERM. A suffix list in braces stands for the call without it too:
 * `chown{32}` is chown and chown32.
 */

/** Allowed to every container. */
export const ALWAYS = `
  ${/* files and their names */ ''}
  open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek
  readahead fadvise64{_64} fallocate truncate{64} ftruncate{64} copy_file_range sendfile{64} splice tee vmsplice sync syncfs fsync fdatasync sync_file_range cachestat
  stat{64} lstat{64} fstat{64} fstatat64 newfstatat statx statfs{64} fstatfs{64} access faccessat faccessat2 statmount listmount
  getdents{64} getcwd chdir fchdir mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat unlink unlinkat readlink readlinkat rename renameat renameat2
  chmod fchmod fchmodat fchmodat2 chown{32} fchown{32} lchown{32} fchownat umask utime utimes futimesat utimensat{_time64} name_to_handle_at
  getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
  dup dup2 dup3 fcntl{64} flock ioctl pipe pipe2 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark memfd_create memfd_secret
  ${/* waiting for files */ ''}
  select _newselect pselect6{_time64} poll ppoll{_time64} epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
  eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime{64} timerfd_settime{64} io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents{_time64}
  ${/* sockets; which families may be made stands in SOCKET_FAMILIES */ ''}
  socketpair socketcall bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
  send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg{_time64}
  ${/* memory */ ''}
  brk mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 mlockall munlock munlockall mseal remap_file_pages membarrier map_shadow_stack
  pkey_alloc pkey_free pkey_mprotect shmat shmctl shmdt shmget
  ${/* processes, threads and signals */ ''}
  fork vfork execve execveat exit exit_group wait4 waitid waitpid kill tkill tgkill pause nanosleep restart_syscall rseq uretprobe
  futex{_time64} futex_wait futex_wake futex_waitv futex_requeue set_robust_list get_robust_list set_tid_address set_thread_area get_thread_area
  pidfd_open pidfd_send_signal process_mrelease prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
  rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait{_time64} rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
  sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler
  sched_get_priority_max sched_get_priority_min sched_rr_get_interval{_time64} sched_yield getpriority setpriority ioprio_get ioprio_set
  getrlimit setrlimit prlimit64 ugetrlimit getrusage times
  ${/* who one is */ ''}
  getpid getppid gettid getpgid setpgid getpgrp getsid setsid getuid{32} geteuid{32} getgid{32} getegid{32} getgroups{32} setgroups{32} getresuid{32} getresgid{32}
  setuid{32} setgid{32} setreuid{32} setregid{32} setresuid{32} setresgid{32} setfsuid{32} setfsgid{32} capget capset
  ${/* time */ ''}
  time gettimeofday alarm getitimer setitimer clock_gettime{64} clock_getres{_time64} clock_nanosleep{_time64} clock_adjtime{64} adjtimex
  timer_create timer_delete timer_getoverrun timer_gettime{64} timer_settime{64}
  ${/* messages, semaphores, the machine */ ''}
  ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop{_time64}
  mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive{_time64} mq_timedsend{_time64} getcpu getrandom sysinfo uname riscv_hwprobe`

/** Allowed on these processors only. */
export const BY_ARCH = {
  x86_64: 'arch_prctl modify_ldt',
  aarch64: 'arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls',
} as const

/** Allowed to those who hold the capability. */
export const BY_CAPABILITY: Readonly<Record<string, string>> = {
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr
    move_mount open_tree perf_event_open quotactl{_fd} setdomainname sethostname setns syslog umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module init_module finit_module',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace',
  CAP_SYS_RAWIO: 'iopl ioperm',
  CAP_SYS_TIME: 'settimeofday stime clock_settime{64}',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy{_home_node}',
  CAP_SYSLOG: 'syslog',
  CAP_BPF: 'bpf',
  CAP_PERFMON: 'perf_event_open',
}

/** Before 4.8 a tracer could change a call after the filter had seen it. */
export const FROM_KERNEL_4_8 = 'process_vm_readv process_vm_writev ptrace'

/**
 * socket(2)'s families: all below 12 and these. Not among them: 38 (AF_ALG), 40 (AF_VSOCK, which
 * leaves every namespace), and dead ones. One by one, since a filter compares 64 bits and the
 * kernel reads 32: "above 40" would let 2^32 + 40 pass.
 */
export const SOCKET_FAMILIES_BELOW = 12
export const SOCKET_FAMILIES = [
  13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
]

/**
 * personality(2) may set these: PER_LINUX, PER_LINUX32, each with UNAME26 too; and ask
 * (0xffffffff).
 */
export const PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]

/**
 * The flags of clone(2) that make namespaces (NEWNS, CGROUP, UTS, IPC, USER, PID, NET): none of
 * them without CAP_SYS_ADMIN.
 */
export const CLONE_NAMESPACES = 0x7e020000
