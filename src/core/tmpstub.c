#include "core/prompt.h"
__attribute__((weak)) void prompt_size(const struct prompt *p, int64_t *b, int64_t *m){*b=(int64_t)p->messages.len;*m=0;}
__attribute__((weak)) void prompt_measured(struct prompt *p, int64_t t){(void)p;(void)t;}
__attribute__((weak)) int64_t prompt_tokens(const struct prompt *p){return (int64_t)p->messages.len/3;}
__attribute__((weak)) int64_t prompt_clearable(const struct prompt *p, const struct model_facts *f){(void)p;(void)f;return 0;}
__attribute__((weak)) void prompt_clear(struct prompt *p, int64_t s){(void)p;(void)s;}
__attribute__((weak)) bool prompt_should_compact(const struct prompt *p, const struct model_facts *f){(void)p;(void)f;return false;}
__attribute__((weak)) bool prompt_can_compact(const struct prompt *p){(void)p;return false;}
__attribute__((weak)) int prompt_summary_request(const struct prompt *p, size_t m, struct buf *o, struct err *e){(void)p;(void)m;(void)o;(void)e;return -1;}
__attribute__((weak)) int prompt_compacted(const struct prompt *p, struct arena *a, struct str s, struct str *o, struct err *e){(void)p;(void)a;(void)s;(void)o;(void)e;return -1;}
__attribute__((weak)) void prompt_user_text(const struct prompt *p, size_t m, struct buf *o){(void)p;(void)m;(void)o;}
