/** Linux ioctl request numbers. @spec linux:asm-generic/ioctl.h */

/** `_IOC(_IOC_NONE, type, nr, size)`; `type` is one character. */
export function ioctlNone(type: string, nr: number, size: number): number {
  return ((size << 16) | (type.charCodeAt(0) << 8) | nr) >>> 0;
}
