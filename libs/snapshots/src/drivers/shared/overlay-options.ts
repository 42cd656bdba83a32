/**
 * Nothing that a layer or a container brings is obeyed (Documentation/filesystems/overlayfs.rst).
 */
export const OVERLAY_OPTIONS = ['redirect_dir=nofollow', 'metacopy=off', 'index=off'] as const
