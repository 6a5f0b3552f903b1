// Points and edges read the same records (places.ts); their position is between `from` and `to` by the time.
const HEAD = `#version 300 es
precision highp float;
`;

const PLACE = `
layout(location = 0) in vec4 a_path;
layout(location = 1) in vec4 a_look;
uniform vec4 u_camera;
uniform vec2 u_half;
uniform float u_now;
uniform float u_move;
uniform float u_flash;
uniform float u_still;
uniform vec3 u_ramp[8];

vec2 place() {
  float t = clamp((u_now - a_look.z) / u_move, 0.0, 1.0);
  float eased = 1.0 - pow(1.0 - t, 3.0);
  return (mix(a_path.xy, a_path.zw, eased) - u_camera.xy) * u_camera.zw / u_half;
}
vec3 ramp(float share) {
  float at = clamp(share, 0.0, 1.0) * 7.0;
  int low = int(min(floor(at), 6.0));
  return mix(u_ramp[low], u_ramp[low + 1], at - float(low));
}
float flash() {
  float f = clamp(1.0 - (u_now - a_look.w) / u_flash, 0.0, 1.0);
  return mix(f, 0.6 * step(0.001, f), u_still);
}
`;

export const POINT_VERTEX = `${HEAD}${PLACE}
uniform float u_radius;
uniform float u_alpha;
uniform vec3 u_ink;
out vec3 v_color;
out vec3 v_shape;
out float v_alpha;
void main() {
  float f = flash();
  float r = a_look.y * u_radius;
  float reach = f > 0.0 ? r * 2.2 + 7.0 * u_radius / 3.0 * (1.0 - f) + 3.0 : r + 1.0;
  gl_Position = a_look.y > 0.0 ? vec4(place(), 0.0, 1.0) : vec4(2.0, 2.0, 0.0, 1.0);
  gl_PointSize = 2.0 * reach;
  v_color = mix(ramp(a_look.x), u_ink, f * f * 0.65);
  v_shape = vec3(r, reach, f);
  v_alpha = max(u_alpha, f);
}`;

export const POINT_FRAGMENT = `${HEAD}
in vec3 v_color;
in vec3 v_shape;
in float v_alpha;
out vec4 o_color;
void main() {
  float d = length(gl_PointCoord - 0.5) * 2.0 * v_shape.y;
  float core = clamp(v_shape.x + 0.5 - d, 0.0, 1.0);
  float shine = 1.0 - clamp(d / v_shape.y, 0.0, 1.0);
  float halo = v_shape.z * shine * shine * 0.55;
  float a = max(core * 0.94, halo) * v_alpha;
  if (a < 0.004) discard;
  o_color = vec4(v_color * a, a);
}`;

export const EDGE_VERTEX = `${HEAD}${PLACE}
uniform float u_alpha;
uniform vec3 u_line;
uniform float u_tint;
out vec4 v_color;
void main() {
  gl_Position = vec4(place(), 0.0, 1.0);
  float f = flash();
  vec3 color = mix(u_line, ramp(a_look.x), max(u_tint, f * 0.8));
  float a = min(1.0, u_alpha * (1.0 + f * 2.5));
  v_color = vec4(color * a, a);
}`;

export const EDGE_FRAGMENT = `${HEAD}
in vec4 v_color;
out vec4 o_color;
void main() { o_color = v_color; }`;

export const LAYER_VERTEX = `${HEAD}
uniform vec4 u_camera;
uniform vec4 u_drawn;
uniform vec2 u_half;
out vec2 v_uv;
void main() {
  vec2 corner = vec2(float(gl_VertexID & 1), float(gl_VertexID >> 1)) * 2.0 - 1.0;
  vec2 world = u_drawn.xy + corner * u_half / u_drawn.zw;
  gl_Position = vec4((world - u_camera.xy) * u_camera.zw / u_half, 0.0, 1.0);
  v_uv = corner * 0.5 + 0.5;
}`;

export const LAYER_FRAGMENT = `${HEAD}
uniform sampler2D u_layer;
uniform float u_alpha;
in vec2 v_uv;
out vec4 o_color;
void main() { o_color = texture(u_layer, v_uv) * u_alpha; }`;

export const GRID_VERTEX = `${HEAD}
layout(location = 0) in vec2 a_at;
void main() { gl_Position = vec4(a_at, 0.0, 1.0); }`;

export const GRID_FRAGMENT = `${HEAD}
uniform vec4 u_color;
out vec4 o_color;
void main() { o_color = vec4(u_color.rgb * u_color.a, u_color.a); }`;
