/** Linux's /dev/xen/evtchn. @spec linux:uapi/xen/evtchn.h */
import { struct, u16, u32 } from '../layout.js';
import { ioctlNone } from './ioctl.js';

export const ioctl_evtchn_bind_virq = struct('ioctl_evtchn_bind_virq', { virq: u32 });
export const ioctl_evtchn_bind_interdomain = struct('ioctl_evtchn_bind_interdomain', {
  remote_domain: u32,
  remote_port: u32,
});
export const ioctl_evtchn_bind_unbound_port = struct('ioctl_evtchn_bind_unbound_port', { remote_domain: u32 });
export const ioctl_evtchn_unbind = struct('ioctl_evtchn_unbind', { port: u32 });
export const ioctl_evtchn_notify = struct('ioctl_evtchn_notify', { port: u32 });
export const ioctl_evtchn_restrict_domid = struct('ioctl_evtchn_restrict_domid', { domid: u16 });

export const IOCTL_EVTCHN_BIND_VIRQ = ioctlNone('E', 0, ioctl_evtchn_bind_virq.size);
export const IOCTL_EVTCHN_BIND_INTERDOMAIN = ioctlNone('E', 1, ioctl_evtchn_bind_interdomain.size);
export const IOCTL_EVTCHN_BIND_UNBOUND_PORT = ioctlNone('E', 2, ioctl_evtchn_bind_unbound_port.size);
export const IOCTL_EVTCHN_UNBIND = ioctlNone('E', 3, ioctl_evtchn_unbind.size);
export const IOCTL_EVTCHN_NOTIFY = ioctlNone('E', 4, ioctl_evtchn_notify.size);
export const IOCTL_EVTCHN_RESET = ioctlNone('E', 5, 0);
export const IOCTL_EVTCHN_RESTRICT_DOMID = ioctlNone('E', 6, ioctl_evtchn_restrict_domid.size);
