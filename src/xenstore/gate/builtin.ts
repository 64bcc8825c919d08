/** The policies that come with Postern. */
import { checkPolicy, type Policy } from './policy.js';

const OWN = '/local/domain/{dm}';
const BACKENDS = ['console', 'vkbd', '9pfs', 'qusb'] as const;

/**
 * What QEMU, started as libxl starts it (-S, -xen-domid-restrict), asks of XenStore until it has restricted itself, and
 * nothing else. From then on it has no XenStore connection at all. Of its guest's own nodes it needs none. Without -S it
 * would also write device-model/<domid>/state, which nobody reads where the toolstack speaks QMP: that is not granted.
 */
const DEVICE_MODEL = {
  name: 'device-model',
  description: 'exactly what a restricted QEMU asks for, and nothing of another domain',
  home: OWN,
  grants: [
    {
      why: 'QEMU looks which domain it runs in; without an answer it takes it for dom0',
      paths: [`${OWN}/domid`],
      rights: ['read'],
    },
    {
      why: 'QEMU says below which backends it has, for the toolstack to see; the toolstack has made what is above',
      paths: [`${OWN}/device-model/{domid}/backends`],
      rights: ['create'],
    },
    {
      why: 'one node a kind of backend that QEMU has, which the guest may not read',
      paths: BACKENDS.map((kind) => `${OWN}/device-model/{domid}/backends/${kind}`),
      rights: ['create', 'perms'],
      permissions: [['n{dm}', 'n{domid}']],
    },
    {
      why: "QEMU learns of its guest's devices of the kinds it is a backend for",
      paths: BACKENDS.map((kind) => `${OWN}/backend/${kind}/{domid}`),
      rights: ['watch', 'list'],
    },
    {
      why: "QEMU learns of its guest's disks, of which it lists none before it is restricted",
      paths: [`${OWN}/backend/qdisk/{domid}`],
      rights: ['watch'],
    },
  ],
};

/** For tools, tests and measuring: what the gate does beside deciding. */
const EVERY_PATH = {
  name: 'every-path',
  description: 'all paths with all rights, no limits; still no INTRODUCE, CONTROL or other privileged request',
  home: OWN,
  grants: [
    {
      why: 'everything',
      paths: ['/', '/**'],
      rights: ['read', 'list', 'write', 'create', 'remove', 'perms', 'watch'],
      permissions: 'any',
    },
    {
      why: 'domains that come and go',
      paths: ['@introduceDomain', '@releaseDomain', '@releaseDomain/{domid}'],
      rights: ['watch'],
    },
  ],
  introduced: ['{domid}', '{dm}'],
  limits: {
    connections: 0,
    outstanding: 256,
    watches: 0,
    transactions: 0,
    nodes: 0,
    'value-bytes': 0,
    'requests-per-second': 0,
  },
};

export const BUILTIN_POLICIES: readonly Policy[] = [DEVICE_MODEL, EVERY_PATH].map(checkPolicy);

export const DEFAULT_POLICY = 'device-model';

export function builtinPolicy(name: string): Policy | undefined {
  return BUILTIN_POLICIES.find((policy) => policy.name === name);
}
