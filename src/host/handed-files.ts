/**
 * Files of dom0's kernel that a program gets as a descriptor of its own, to use without us: xenbus as a stream, what lies in
 * /proc/xen and /sys/hypervisor as memory files.
 *
 * The XenStore daemon finds the kernel's event channel port and ring page there; whoever may open the host's devices may
 * be that daemon, as root may on Linux.
 *
 * @spec linux:drivers/xen/xenfs/super.c, xenstored.c
 */
import { writeSync } from 'node:fs';
import type { Xenbus } from '../dom0/xenbus.js';
import { EXTRAVERSION, MAJOR, MINOR } from '../hypervisor/hypercalls/xen-version/table.js';
import { checked, createMemoryFile, F_DUPFD_CLOEXEC, libc } from './libc.js';
import { fromSystem, type MemoryFileExtent } from './memory-files.js';
import type { XenbusStreams } from './xenbus-streams.js';

/** What a program reads to learn that it is in dom0, and of which Xen. */
const TEXTS = new Map<string, string>([
  ['capabilities', 'control_d\n'],
  ['hypervisor/type', 'xen\n'],
  ['hypervisor/version/major', `${MAJOR}\n`],
  ['hypervisor/version/minor', `${MINOR}\n`],
  ['hypervisor/version/extra', `${EXTRAVERSION}\n`],
]);

export class HandedFiles {
  constructor(
    private readonly xenbus: Xenbus,
    private readonly ring: MemoryFileExtent,
    readonly streams: XenbusStreams,
  ) {}

  /** @returns a descriptor to pass on and close, or undefined where it is no such file @throws XenError ENOMEM, EMFILE */
  open(name: string, pid: number): number | undefined {
    switch (name) {
      case 'xenbus':
        return this.streams.openFor(pid);
      case 'xsd_port':
        return textFile(`${this.xenbus.port}`);
      case 'xsd_kva':
        return fromSystem(() => checked('fcntl', libc.dup(this.ring.fd, F_DUPFD_CLOEXEC, 0)));
      default: {
        const text = TEXTS.get(name);
        return text === undefined ? undefined : textFile(text);
      }
    }
  }

  close(): void {
    this.streams.close();
    this.ring.release();
  }
}

function textFile(text: string): number {
  return fromSystem(() => {
    const fd = createMemoryFile('postern-text', text.length);
    writeSync(fd, text, 0);
    return fd;
  });
}
