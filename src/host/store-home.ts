/**
 * A domain's home in XenStore as libxl makes it, as much of it as means something without the rest of libxl: who owns
 * what, what a guest's kernel and hvmloader look for, and where the ring is.
 * @spec xen:tools/libs/light/libxl_create.c libxl__domain_make, libxl_dom.c libxl__build_post
 */
import { XS_HEADER_SIZE, XS_RM, XS_SET_PERMS, XS_WRITE } from '../abi/xen/xs-wire.js';
import { latin1, message } from '../dom0/xenbus-message.js';
import type { XenstoreServer } from '../xenstore/server.js';

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

export function writeHome(server: XenstoreServer, home: Home): void {
  const { domid, uuid, memoryMiB, vcpus, gfn, port } = home;
  const scribe = new Scribe(server);
  const at = `/local/domain/${domid}`;
  const vm = `/vm/${uuid}`;
  const path = (name: string) => (name === '' ? at : `${at}/${name}`);
  scribe.remove(at);
  scribe.remove(`/libxl/${domid}`);
  for (const name of READABLE) scribe.write(path(name), '', `n0\0r${domid}\0`);
  for (const name of OWN) scribe.write(path(name), '', `n${domid}\0`);
  scribe.write(vm, '', `n0\0r${domid}\0`);
  scribe.write(`/libxl/${domid}`, '', 'n0\0');
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
  for (const [node, value] of values) scribe.write(node, String(value));
  for (let i = 0; i < vcpus; i++) scribe.write(path(`cpu/${i}/availability`), 'online');
  scribe.close();
}

/** A local tool that doesn't wait for answers: one that a quota refuses is refused to libxl, too. */
class Scribe {
  private readonly connection;

  constructor(server: XenstoreServer) {
    this.connection = server.connect({ domid: 0, kind: 'socket', sink: { ready() {}, closed() {} } });
  }

  write(path: string, value: string, permissions?: string): void {
    this.send(XS_WRITE, `${path}\0${value}`);
    if (permissions !== undefined) this.send(XS_SET_PERMS, `${path}\0${permissions}`);
  }

  remove(path: string): void {
    this.send(XS_RM, `${path}\0`);
  }

  close(): void {
    this.connection.close();
  }

  private send(type: number, payload: string): void {
    this.connection.receive(message(type, 0, 0, latin1(payload)));
    for (let size = this.connection.output().length; size >= XS_HEADER_SIZE; size = this.connection.output().length) {
      this.connection.sent(size);
    }
  }
}
