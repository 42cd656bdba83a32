/**
 * Options with which the kernel obeys no overlay attribute that a layer or a container brings
 * (Documentation/filesystems/overlayfs.rst).
 */
export const OVERLAY_OPTIONS = ['redirect_dir=nofollow', 'metacopy=off', 'index=off'] as const
