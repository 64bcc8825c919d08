/**
 * A domain's home in XenStore as libxl makes it, as much of it as means something without the rest of libxl: who owns
 * what, what a guest's kernel and hvmloader look for, and where the ring is.
 * @spec xen:tools/libs/light/libxl_create.c libxl__domain_make, libxl_dom.c libxl__build_post
 */
import { XS_INTRODUCE, XS_RM, XS_SET_PERMS, XS_WRITE } from '../abi/xen/xs-wire.js';
import type { Xenbus } from '../dom0/xenbus.js';
import type { XenbusFile } from '../dom0/xenbus-file.js';
import { latin1, message } from '../dom0/xenbus-message.js';
import type { XenstoreServer } from '../xenstore/server.js';

export interface StoreRequest {
  readonly type: number;
  readonly payload: string;
}

export interface Home {
  readonly domid: number;
  readonly uuid: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly gfn: number;
  readonly port: number;
}

/** What the guest may read. */
const READABLE = ['', 'cpu', 'memory', 'device', 'control', 'hvmloader'];
/** What is its own. */
const OWN = [
  'device/suspend/event-channel',
  'control/shutdown',
  'control/feature-poweroff',
  'control/feature-reboot',
  'control/feature-suspend',
  'control/feature-s3',
  'control/feature-s4',
  'control/sysrq',
  'data',
  'drivers',
  'feature',
  'attr',
  'error',
];

export function uuidOf(handle: Uint8Array): string {
  const hex = Array.from(handle, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** What a toolstack asks of the store, in order. */
export function* homeRequests(home: Home): Generator<StoreRequest> {
  const { domid, uuid, memoryMiB, vcpus, gfn, port } = home;
  const at = `/local/domain/${domid}`;
  const vm = `/vm/${uuid}`;
  const path = (name: string) => (name === '' ? at : `${at}/${name}`);
  yield { type: XS_RM, payload: `${at}\0` };
  yield { type: XS_RM, payload: `/libxl/${domid}\0` };
  for (const name of READABLE) yield* node(path(name), `n0\0r${domid}\0`);
  for (const name of OWN) yield* node(path(name), `n${domid}\0`);
  yield* node(vm, `n0\0r${domid}\0`);
  yield* node(`/libxl/${domid}`, 'n0\0');
  const values: [string, string | number][] = [
    [`${vm}/uuid`, uuid],
    [`${vm}/name`, `domain-${domid}`],
    [path('vm'), vm],
    [path('name'), `domain-${domid}`],
    [path('domid'), domid],
    [path('control/platform-feature-multiprocessor-suspend'), 1],
    [path('control/platform-feature-xs_reset_watches'), 1],
    [path('memory/static-max'), memoryMiB * 1024],
    [path('memory/target'), memoryMiB * 1024],
    [path('store/port'), port],
    [path('store/ring-ref'), gfn],
    [`/libxl/${domid}/type`, 'hvm'],
  ];
  for (const [name, value] of values) yield { type: XS_WRITE, payload: `${name}\0${value}` };
  for (let i = 0; i < vcpus; i++) yield { type: XS_WRITE, payload: `${path(`cpu/${i}/availability`)}\0online` };
  yield { type: XS_INTRODUCE, payload: `${domid}\0${gfn}\0${port}\0` };
}

function* node(path: string, permissions: string): Generator<StoreRequest> {
  yield { type: XS_WRITE, payload: `${path}\0` };
  yield { type: XS_SET_PERMS, payload: `${path}\0${permissions}` };
}

/** A local tool of a store in this thread. It doesn't look at answers: what a quota refuses it refuses to libxl, too. */
export function askDirectly(server: XenstoreServer, requests: Iterable<StoreRequest>): void {
  const connection = server.connect({ domid: 0, kind: 'socket', sink: { ready() {}, closed() {} } });
  for (const { type, payload } of requests) {
    connection.receive(message(type, 0, 0, latin1(payload)));
    for (let size = connection.output().length; size > 0; size = connection.output().length) connection.sent(size);
  }
  connection.close();
}

/**
 * The same through dom0's kernel, for a daemon of its own: asked in order, as fast as it answers, or once one is there.
 */
export class KernelTool {
  private readonly waiting: StoreRequest[] = [];
  private readonly file: XenbusFile;
  private busy = false;

  constructor(xenbus: Xenbus) {
    this.file = xenbus.open({ ready: () => this.goOn(), failed: () => {} });
  }

  ask(requests: Iterable<StoreRequest>): void {
    this.waiting.push(...requests);
    this.goOn();
  }

  private goOn(): void {
    if (this.busy) return;
    this.busy = true;
    for (let { readable } = this.file; readable.length > 0; readable = this.file.readable)
      this.file.taken(readable.length);
    for (let next = this.waiting[0]; next; next = this.waiting[0]) {
      const bytes = message(next.type, 0, 0, latin1(next.payload));
      if (bytes.length > this.file.room) break;
      this.waiting.shift();
      this.file.write(bytes);
    }
    this.busy = false;
  }
}
