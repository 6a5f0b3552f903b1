// A linked program and where its uniforms are.

export class Program {
  readonly handle: WebGLProgram;
  private readonly places = new Map<string, WebGLUniformLocation | null>();

  constructor(
    private readonly gl: WebGL2RenderingContext,
    vertex: string,
    fragment: string,
  ) {
    const handle = gl.createProgram();
    for (const [kind, source] of [
      [gl.VERTEX_SHADER, vertex],
      [gl.FRAGMENT_SHADER, fragment],
    ] as const) {
      const shader = gl.createShader(kind) as WebGLShader;
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(handle, shader);
    }
    gl.linkProgram(handle);
    if (!gl.getProgramParameter(handle, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error(`the picture's program does not link: ${gl.getProgramInfoLog(handle)}`);
    }
    this.handle = handle;
  }

  /** Draw with it from now on. */
  begin(): this {
    // biome-ignore lint/correctness/useHookAtTopLevel: no hook of React's
    this.gl.useProgram(this.handle);
    return this;
  }

  set(name: string, ...values: number[]): this {
    const place = this.place(name);
    if (values.length === 1) this.gl.uniform1f(place, values[0] as number);
    else if (values.length === 2) this.gl.uniform2fv(place, values);
    else if (values.length === 3) this.gl.uniform3fv(place, values);
    else this.gl.uniform4fv(place, values);
    return this;
  }

  setVec3s(name: string, values: Float32Array): this {
    this.gl.uniform3fv(this.place(name), values);
    return this;
  }

  private place(name: string): WebGLUniformLocation | null {
    let place = this.places.get(name);
    if (place === undefined) {
      place = this.gl.getUniformLocation(this.handle, name);
      this.places.set(name, place);
    }
    return place;
  }
}
