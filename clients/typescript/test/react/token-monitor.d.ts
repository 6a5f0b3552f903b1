import type { ReactNode } from 'react';

export function TokenMonitor(): ReactNode;
