/** What the pack uses of marked. */
export class Lexer {
  constructor(options?: object);
  lex(source: string): any[];
}
