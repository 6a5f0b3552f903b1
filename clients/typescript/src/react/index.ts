'use client';

/** React hooks over the client: the connection, its messages, its subscriptions. For React 18 and later. */

export { type Connection, type ConnectionOptions, useNeuroGraphWebSocket } from './connection.js';
export { useWebSocketMessage } from './message.js';
export { type Subscription, useWebSocketSubscription } from './subscription.js';
