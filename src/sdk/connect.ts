/** Where an SDK program finds /dev/xen when it does not say: the embedded host that its environment names. */
import { connectHost } from './embedded-host.js';
import type { XenDevices } from './xen-devices.js';

/** Environment variable with the host's socket, as `postern exec` sets it. */
const HOST_VARIABLE = 'POSTERN_HOST';

/**
 * Connects to the embedded host at `socketPath`, or at what POSTERN_HOST names.
 * @throws Error where neither is given, XenDeviceError where nobody answers
 */
export function connectXen(socketPath = process.env[HOST_VARIABLE]): XenDevices {
  if (!socketPath) {
    throw new Error(`no Xen host: give a socket path, or set ${HOST_VARIABLE} (postern exec does it for its command)`);
  }
  return connectHost(socketPath);
}
