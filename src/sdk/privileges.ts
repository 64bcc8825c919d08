/**
 * Giving up what the operating system grants a process, after the Xen files are open and restricted: root directory,
 * groups, user. What was loaded stays loaded; nothing can be opened by path afterwards.
 */
import { checked, libc } from '../host/libc.js';

export interface Privileges {
  /** User to become. */
  readonly uid?: number;
  /** Group to become; default: the user's number. */
  readonly gid?: number;
  /** Directory to see as the root; an empty one, as a rule. */
  readonly chroot?: string;
}

/**
 * Drops privileges for good. Needs root for anything but the process's own user.
 * @throws Error where the system refuses: the process must not go on then
 */
export function dropPrivileges(privileges: Privileges): void {
  const { uid, chroot } = privileges;
  const gid = privileges.gid ?? uid;
  if (chroot !== undefined) {
    checked(`chroot to ${chroot}`, libc.chroot(chroot));
    process.chdir('/');
  }
  if (gid !== undefined) {
    if (process.getuid?.() === 0) process.setgroups?.([]);
    process.setgid?.(gid);
  }
  if (uid !== undefined) {
    process.setuid?.(uid);
    if (uid !== 0 && process.geteuid?.() === 0) throw new Error('still root after setuid');
  }
}
