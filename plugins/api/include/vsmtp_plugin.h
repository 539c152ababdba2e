/*
 * vsmtp_plugin.h - native plugins of vSMTP, version 1 of the interface (C99 and later, or C++).
 *
 * A plugin is a shared library with one symbol, vsl_plugin_v1. The filter loads it when it loads rules, never later and
 * never as root, and asks that symbol once per process what there is: functions, and types of objects. Scripts reach them
 * by `import "plugins/NAME" as p;`. docs/plugins.md says how to install one, and what it can and cannot do.
 *
 * Rules of the interface:
 *
 *  - Every struct begins with its size and the number of the interface. Both sides set them; a reader looks at no field
 *    that lies beyond `size`. Later versions add fields at the end and bits to `features`; nothing is ever changed.
 *  - Strings are a pointer and a length, in octets, without a NUL at the end. Strings are UTF-8; blobs are any octets.
 *  - Whoever allocated memory frees it. The host copies what it is given before the function it was given to returns. What
 *    the host hands out is valid until the call for which it was handed out returns; nothing of it may be freed or changed.
 *  - Values are handles: numbers that mean something within one call only. 0 is no value.
 *  - Descriptors (VsPlugin, VsFunction, VsType and all that they point to) must stay as they are until the process ends.
 *    The library is never unloaded.
 *  - Threads: the filter calls from many threads, several calls at once, also with the same object. Functions, methods and
 *    `destroy` must be safe for that. A VsCall belongs to the thread that was called with it, until it returns.
 *  - No exception, no panic and no longjmp may leave a function of the plugin.
 */
#ifndef VSMTP_PLUGIN_H
#define VSMTP_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The number of this interface: in every `abi` field. */
#define VS_ABI 1u

/* The bounds that the host keeps. What is larger is refused: the entry symbol's answer as a whole, or the one value. */
#define VS_MAX_NAME 64u          /* octets of a name; [a-z_][a-z0-9_]*, but for names of plugins and versions: see VsPlugin */
#define VS_MAX_FUNCTIONS 256u    /* functions of a plugin, types of a plugin, methods of a type */
#define VS_MAX_PARAMS 8u         /* parameters of a function */
#define VS_MAX_VALUES 100000u    /* values of one call, arguments and all that are inside them included */
#define VS_MAX_OCTETS 16777216u  /* octets of all strings, blobs and keys of one call together */
#define VS_MAX_DEPTH 32u         /* arrays and maps in each other */
#define VS_MAX_MESSAGE 1024u     /* octets of an error's message or of a line of the log; the rest is cut off */

/* A string or a blob. `data` may be NULL if `len` is 0. */
typedef struct VsStr {
    const char *data;
    size_t len;
} VsStr;

/* A value of one call; 0 is none. */
typedef uint32_t VsValue;

/* One call of a function of the plugin. Only the host knows what is in it. */
typedef struct VsCall VsCall;

/* What a value is. */
#define VS_NONE 0u   /* there is no such value */
#define VS_UNIT 1u   /* () */
#define VS_BOOL 2u
#define VS_INT 3u    /* 64 bits, signed */
#define VS_FLOAT 4u  /* 64 bits */
#define VS_STRING 5u /* also what addresses, domains, networks, codes and the like of vSL come as */
#define VS_BLOB 6u
#define VS_ARRAY 7u
#define VS_MAP 8u
#define VS_OBJECT 9u /* an object that a plugin has made */
#define VS_ANY 255u  /* as a parameter only: whatever the script gives */

/* VsFunction.flags: the function never waits and needs less than about a millisecond. The filter then calls it where it
 * handles events: if it takes longer all the same, everybody waits with it. */
#define VS_QUICK 1u

/* VsHost.log: how loud a line is. */
#define VS_LOG_ERROR 1u
#define VS_LOG_WARN 2u
#define VS_LOG_INFO 3u
#define VS_LOG_DEBUG 4u

/* A function, or a method of a type. */
typedef struct VsFunction {
    uint32_t size; /* sizeof(VsFunction) */
    uint32_t abi;  /* VS_ABI */
    VsStr name;
    const uint32_t *params; /* what each argument must be; NULL if there are none */
    uint32_t param_count;
    uint32_t flags; /* VS_QUICK or 0 */
    /* Runs it. `self` is the object's `data` for a method and NULL for a function; `data` is the field below.
     * 0: it has worked, and its value is what it gave to `returns` last, or (). Anything else: it has failed, for the
     * reason it gave to `fails`; the script sees an error, with its file and line. */
    int32_t (*call)(VsCall *call, void *self, void *data);
    void *data; /* the plugin's own; may be NULL */
} VsFunction;

/* A type of objects. Scripts can call their methods, keep them in constants and hand them to functions; nothing else. */
typedef struct VsType {
    uint32_t size; /* sizeof(VsType) */
    uint32_t abi;  /* VS_ABI */
    VsStr name;
    /* Ends an object: called once, from any thread, when nobody has it any more. Objects that are still there when the
     * process ends are not ended. May be NULL. */
    void (*destroy)(void *self);
    const VsFunction *const *methods; /* no two with the same name and number of parameters */
    uint32_t method_count;
    uint32_t reserved; /* 0 */
} VsType;

/* What a plugin has. */
typedef struct VsPlugin {
    uint32_t size; /* sizeof(VsPlugin) */
    uint32_t abi;  /* VS_ABI */
    VsStr name;    /* for the log; 1 to VS_MAX_NAME printable ASCII characters */
    VsStr version; /* the same */
    const VsFunction *const *functions; /* no two with the same name and number of parameters */
    const VsType *const *types;
    uint32_t function_count;
    uint32_t type_count;
} VsPlugin;

/* What the host does for a plugin. All but `log` are for the call that is named, while it runs. A handle that is not one of
 * this call counts as 0. */
typedef struct VsHost {
    uint32_t size; /* of the host's VsHost: it may be larger than yours, and must not be smaller */
    uint32_t abi;  /* VS_ABI */
    uint64_t features; /* bits for what later versions add; 0 */

    /* Reading arguments. `argument` counts from 0; the host has checked their number and kinds. */
    uint32_t (*argument_count)(VsCall *call);
    VsValue (*argument)(VsCall *call, uint32_t at);
    uint32_t (*kind)(VsCall *call, VsValue value);
    /* 0: it is one, and is in *out. -1: it is something else, and *out is as it was. */
    int32_t (*get_bool)(VsCall *call, VsValue value, int32_t *out);
    int32_t (*get_int)(VsCall *call, VsValue value, int64_t *out);
    int32_t (*get_float)(VsCall *call, VsValue value, double *out);
    int32_t (*get_string)(VsCall *call, VsValue value, VsStr *out); /* of a string */
    int32_t (*get_blob)(VsCall *call, VsValue value, VsStr *out);   /* of a blob or a string */
    /* How many elements an array or entries a map has; 0 for all else. */
    size_t (*length)(VsCall *call, VsValue value);
    /* An element of an array, from 0. */
    VsValue (*element)(VsCall *call, VsValue array, size_t at);
    /* An entry of a map, from 0, in no order that means anything; its key is in *key, which may be NULL. */
    VsValue (*entry)(VsCall *call, VsValue map, size_t at, VsStr *key);
    /* The value of a key. */
    VsValue (*lookup)(VsCall *call, VsValue map, VsStr key);
    /* The `data` of an object of this type of this plugin; NULL if the value is none. */
    void *(*get_object)(VsCall *call, VsValue value, const VsType *type);

    /* Making values; 0 if a bound is reached, or if what is given cannot be one (text that is not UTF-8). They are freed
     * with the call. */
    VsValue (*new_unit)(VsCall *call);
    VsValue (*new_bool)(VsCall *call, int32_t value);
    VsValue (*new_int)(VsCall *call, int64_t value);
    VsValue (*new_float)(VsCall *call, double value);
    VsValue (*new_string)(VsCall *call, VsStr text);
    VsValue (*new_blob)(VsCall *call, VsStr octets);
    VsValue (*new_array)(VsCall *call);
    VsValue (*new_map)(VsCall *call);
    /* An object of a type of this plugin. From now on the host calls the type's `destroy`; if 0 comes back it never will. */
    VsValue (*new_object)(VsCall *call, const VsType *type, void *data);
    /* Adds an element, or an entry in the place of one with that key. 0: done; -1: not. */
    int32_t (*push)(VsCall *call, VsValue array, VsValue element);
    int32_t (*insert)(VsCall *call, VsValue map, VsStr key, VsValue value);

    /* What the call comes to. 0: taken; -1: there is no such value. */
    int32_t (*returns)(VsCall *call, VsValue value);
    /* Why it fails. What is not UTF-8 in it is replaced. Answers 1, so that a function can end in `return host->fails(...)`. */
    int32_t (*fails)(VsCall *call, VsStr message);

    /* What the rule has left of its time, in milliseconds. A call is not interrupted, but what waits should wait no longer:
     * a filter of which a call goes on for long after the rule's time is ended and started anew. UINT64_MAX: no limit. */
    uint64_t (*time_left_ms)(VsCall *call);
    /* A line of the log. */
    void (*log)(VsCall *call, uint32_t level, VsStr text);
} VsHost;

/* The one symbol of a plugin. `host` stays valid until the process ends. NULL: the plugin cannot work here, for instance
 * because host->size or host->features is too little for it. */
const VsPlugin *vsl_plugin_v1(const VsHost *host);

#ifdef __cplusplus
}
#endif
#endif
