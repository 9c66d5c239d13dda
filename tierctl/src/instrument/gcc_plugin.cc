// A plugin for gcc that puts a check in front of each load and store.
//
// Its pass is the last one before code is made, so what is counted is what the optimiser has left over, vectorised loops
// included. A check is a statement of inline assembly that calls the same functions as LLVM's address sanitizer does
// (see `tiermem_instrument::checks`): they change r10, r11 and the flags, so everything else stays in its registers.
// "memory" keeps later passes from merging or moving accesses across checks: each that is counted is made.
//
// Functions of the C library that read or write memory for their caller are called as ordinary functions, so that none
// becomes loads and stores behind this pass: the run time counts them.

#include "gcc-plugin.h"
#include "plugin-version.h"

#include "tree.h"
#include "gimple.h"
#include "gimple-iterator.h"
#include "gimplify.h"
#include "gimplify-me.h"
#include "ssa.h"
#include "tree-pass.h"
#include "context.h"
#include "fold-const.h"
#include "stringpool.h"
#include "attribs.h"
#include "function.h"
#include "stor-layout.h"
#include "tree-ssa-address.h"
#include "internal-fn.h"

int plugin_is_GPL_compatible;

namespace {

tree operand(const char *constraint, tree value)
{
	tree name = build_string(strlen(constraint) + 1, constraint);
	return build_tree_list(build_tree_list(NULL_TREE, name), value);
}

tree clobber(const char *name)
{
	return build_tree_list(NULL_TREE, build_string(strlen(name) + 1, name));
}

// What the checks of one function are put together with.
struct Checks {
	gimple_stmt_iterator *at;

	// An access of `size` bytes from `address`, a GIMPLE value, in front of the statement.
	void insert(tree address, unsigned HOST_WIDE_INT size, bool store)
	{
		if (size == 1 || size == 2 || size == 4 || size == 8 || size == 16)
			insert_call(address, size, store);
		else
			insert_range(address, size, store);
	}

	void insert_call(tree address, unsigned HOST_WIDE_INT size, bool store)
	{
		char text[64];
		const char *kind = store ? "store" : "load";
		snprintf(text, sizeof text, "call\t__asan_check_%s_add_%d_RDI", kind, int(size));
		vec<tree, va_gc> *inputs = NULL, *clobbers = NULL;
		vec_safe_push(inputs, operand("D", address));
		for (const char *name : {"r10", "r11", "cc", "memory"})
			vec_safe_push(clobbers, clobber(name));
		gasm *check = gimple_build_asm_vec(ggc_strdup(text), inputs, NULL, clobbers, NULL);
		gimple_asm_set_volatile(check, true);
		put(check);
	}

	void insert_range(tree address, unsigned HOST_WIDE_INT size, bool store)
	{
		const char *name = store ? "__asan_storeN_noabort" : "__asan_loadN_noabort";
		tree type = build_function_type_list(void_type_node, ptr_type_node, size_type_node, NULL_TREE);
		tree length = build_int_cstu(size_type_node, size);
		put(gimple_build_call(build_fn_decl(name, type), 2, address, length));
	}

	void put(gimple *statement)
	{
		gimple_set_location(statement, gimple_location(gsi_stmt(*at)));
		gsi_insert_before(at, statement, GSI_SAME_STMT);
	}

	tree value(tree expression)
	{
		return force_gimple_operand_gsi(at, expression, true, NULL_TREE, true, GSI_SAME_STMT);
	}

	void reference(tree expression, bool store);
	void bits(tree expression, bool store);
};

// Whether a reference is to memory, and to that of this address space.
bool is_memory(tree expression)
{
	tree base = get_base_address(expression);
	if (base == NULL_TREE || !ADDR_SPACE_GENERIC_P(TYPE_ADDR_SPACE(TREE_TYPE(base))))
		return false;
	switch (TREE_CODE(base)) {
	case MEM_REF:
	case TARGET_MEM_REF:
	case CONST_DECL:
		return true;
	case VAR_DECL:
		if (DECL_HARD_REGISTER(base))
			return false;
		return is_global_var(base) || !use_register_for_decl(base);
	case PARM_DECL:
	case RESULT_DECL:
		return !use_register_for_decl(base);
	default:
		// SSA names, constants and constructors.
		return false;
	}
}

// The address of a reference to memory, as an expression.
tree address_of(tree expression)
{
	if (TREE_CODE(expression) == TARGET_MEM_REF)
		return tree_mem_ref_addr(ptr_type_node, unshare_expr(expression));
	tree base = get_base_address(expression);
	if (DECL_P(base) && TREE_CODE(base) != CONST_DECL)
		TREE_ADDRESSABLE(base) = 1;
	return build_fold_addr_expr(unshare_expr(expression));
}

void Checks::reference(tree expression, bool store)
{
	if (TREE_CODE(expression) == WITH_SIZE_EXPR)
		expression = TREE_OPERAND(expression, 0);
	if (!is_memory(expression))
		return;
	bool parts = TREE_CODE(expression) == REALPART_EXPR || TREE_CODE(expression) == IMAGPART_EXPR;
	bool is_field = TREE_CODE(expression) == COMPONENT_REF && DECL_BIT_FIELD(TREE_OPERAND(expression, 1));
	if (is_field || TREE_CODE(expression) == BIT_FIELD_REF) {
		bits(expression, store);
		return;
	}
	// A number of the x87 has ten bytes of the sixteen of its type.
	HOST_WIDE_INT size = TYPE_MODE(TREE_TYPE(expression)) == XFmode ? 10 : int_size_in_bytes(TREE_TYPE(expression));
	if (size <= 0)
		return;
	tree whole = parts ? TREE_OPERAND(expression, 0) : expression;
	tree address = address_of(whole);
	if (TREE_CODE(expression) == IMAGPART_EXPR)
		address = fold_build_pointer_plus_hwi(address, size);
	insert(value(fold_convert(ptr_type_node, address)), size, store);
}

// Some bits: the bytes that hold them are read, and written too if they are stored and others lie beside.
void Checks::bits(tree expression, bool store)
{
	poly_int64 size_bits, position_bits;
	tree offset;
	machine_mode mode;
	int is_unsigned, is_reverse, is_volatile;
	tree base = get_inner_reference(expression, &size_bits, &position_bits, &offset, &mode, &is_unsigned, &is_reverse,
					&is_volatile);
	HOST_WIDE_INT size, position;
	if (!size_bits.is_constant(&size) || !position_bits.is_constant(&position) || size <= 0)
		return;
	HOST_WIDE_INT first = position >> LOG2_BITS_PER_UNIT;
	HOST_WIDE_INT last = (position + size - 1) >> LOG2_BITS_PER_UNIT;
	bool whole = position % BITS_PER_UNIT == 0 && size % BITS_PER_UNIT == 0;
	tree address = fold_convert(ptr_type_node, address_of(base));
	if (offset != NULL_TREE)
		address = fold_build_pointer_plus(address, unshare_expr(offset));
	if (first != 0)
		address = fold_build_pointer_plus_hwi(address, first);
	// The bytes in between are read as one number: of 1, 2, 4 or 8 bytes.
	HOST_WIDE_INT bytes = last - first + 1;
	if (!whole && bytes < 8)
		bytes = HOST_WIDE_INT(1) << ceil_log2(bytes);
	tree at = value(address);
	if (!store || !whole)
		insert(at, bytes, false);
	if (store)
		insert(at, bytes, true);
}

bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

// A function of the C library that the run time counts.
bool is_counted_in_library(const char *name)
{
	for (const char *with : {"mem", "str", "stp", "bcmp", "bcopy", "bzero", "__mem", "__str", "__stp"})
		if (starts(name, with))
			return true;
	return false;
}

// `__atomic_fetch_add_8` and the like: bytes that are accessed, else 0.
unsigned atomic_size(const char *name)
{
	if (!starts(name, "__atomic_") && !starts(name, "__sync_"))
		return 0;
	const char *end = strrchr(name, '_') + 1;
	unsigned size = atoi(end);
	return size <= 16 && (size & (size - 1)) == 0 ? size : 0;
}

HOST_WIDE_INT pointed_size(tree type)
{
	return type == NULL_TREE || TREE_CODE(type) == VOID_TYPE ? 0 : int_size_in_bytes(type);
}

// Functions that gcc knows and makes into instructions.
void internal_call(Checks &checks, gcall *call)
{
	tree pointer = gimple_call_num_args(call) > 0 ? gimple_call_arg(call, 0) : NULL_TREE;
	if (pointer == NULL_TREE || !POINTER_TYPE_P(TREE_TYPE(pointer)))
		return;
	HOST_WIDE_INT size = 0;
	bool store = true;
	switch (gimple_call_internal_fn(call)) {
	case IFN_MASK_LOAD:
		store = false;
		size = gimple_call_lhs(call) ? pointed_size(TREE_TYPE(gimple_call_lhs(call))) : 0;
		break;
	case IFN_MASK_STORE:
		size = pointed_size(TREE_TYPE(gimple_call_arg(call, 3)));
		break;
	case IFN_ATOMIC_COMPARE_EXCHANGE:
		size = tree_to_uhwi(gimple_call_arg(call, 3)) & 255;
		break;
	case IFN_ATOMIC_BIT_TEST_AND_SET:
	case IFN_ATOMIC_BIT_TEST_AND_COMPLEMENT:
	case IFN_ATOMIC_BIT_TEST_AND_RESET:
		size = pointed_size(TREE_TYPE(gimple_call_arg(call, 2)));
		break;
#if GCCPLUGIN_VERSION_MAJOR >= 12
	case IFN_ATOMIC_ADD_FETCH_CMP_0:
	case IFN_ATOMIC_SUB_FETCH_CMP_0:
	case IFN_ATOMIC_AND_FETCH_CMP_0:
	case IFN_ATOMIC_OR_FETCH_CMP_0:
	case IFN_ATOMIC_XOR_FETCH_CMP_0:
		size = pointed_size(TREE_TYPE(gimple_call_arg(call, 2)));
		break;
#endif
	default:
		return;
	}
	if (size > 0)
		checks.insert(checks.value(unshare_expr(pointer)), size, store);
}

void builtin_call(Checks &checks, gcall *call, tree function)
{
	const char *name = IDENTIFIER_POINTER(DECL_NAME(function));
	if (unsigned size = atomic_size(name)) {
		bool store = !starts(name, "__atomic_load");
		checks.insert(checks.value(unshare_expr(gimple_call_arg(call, 0))), size, store);
		return;
	}
	if (starts(name, "__builtin_ia32_movnt") && gimple_call_num_args(call) == 2) {
		HOST_WIDE_INT size = pointed_size(TREE_TYPE(gimple_call_arg(call, 1)));
		if (size > 0)
			checks.insert(checks.value(unshare_expr(gimple_call_arg(call, 0))), size, true);
		return;
	}
	const char *in_library = IDENTIFIER_POINTER(DECL_ASSEMBLER_NAME(function));
	if (in_library[0] == '*')
		in_library++;
	if (is_counted_in_library(in_library))
		gimple_call_set_fndecl(call, build_fn_decl(in_library, TREE_TYPE(function)));
}

void call_checks(Checks &checks, gcall *call)
{
	for (unsigned i = 0; i < gimple_call_num_args(call); i++)
		checks.reference(gimple_call_arg(call, i), false);
	tree result = gimple_call_lhs(call);
	tree function = gimple_call_fndecl(call);
	// What is returned in memory is written by the function that is called.
	if (result != NULL_TREE && !aggregate_value_p(result, gimple_call_fntype(call)))
		checks.reference(result, true);
	if (gimple_call_internal_p(call))
		internal_call(checks, call);
	else if (function != NULL_TREE && fndecl_built_in_p(function))
		builtin_call(checks, call, function);
}

void statement_checks(Checks &checks, gimple *statement)
{
	switch (gimple_code(statement)) {
	case GIMPLE_ASSIGN:
		if (gimple_clobber_p(statement) || !gimple_assign_single_p(statement))
			break;
		checks.reference(gimple_assign_rhs1(statement), false);
		checks.reference(gimple_assign_lhs(statement), true);
		break;
	case GIMPLE_CALL:
		call_checks(checks, as_a<gcall *>(statement));
		break;
	case GIMPLE_RETURN: {
		tree value = gimple_return_retval(as_a<greturn *>(statement));
		if (value != NULL_TREE && TREE_CODE(value) != RESULT_DECL)
			checks.reference(value, false);
		break;
	}
	default:
		break;
	}
}

const pass_data DATA = {GIMPLE_PASS, "tiermem_checks", OPTGROUP_NONE, TV_NONE, PROP_cfg | PROP_ssa, 0, 0, 0, TODO_update_ssa};

struct ChecksPass : gimple_opt_pass {
	ChecksPass() : gimple_opt_pass(DATA, g)
	{
	}

	bool gate(function *) final override
	{
		tree attributes = DECL_ATTRIBUTES(current_function_decl);
		for (const char *name : {"no_instrument_function", "no_sanitize", "naked"})
			if (lookup_attribute(name, attributes))
				return false;
		return true;
	}

	unsigned execute(function *function) final override
	{
		basic_block block;
		FOR_EACH_BB_FN(block, function)
			for (gimple_stmt_iterator at = gsi_start_bb(block); !gsi_end_p(at); gsi_next(&at)) {
				Checks checks = {&at};
				statement_checks(checks, gsi_stmt(at));
			}
		return 0;
	}
};

} // namespace

int plugin_init(plugin_name_args *info, plugin_gcc_version *version)
{
	if (!plugin_default_version_check(version, &gcc_version)) {
		fprintf(stderr, "tiermem: the checks were compiled for another gcc: this one is %s\n", version->basever);
		return 1;
	}
	register_pass_info pass = {new ChecksPass, "optimized", 1, PASS_POS_INSERT_BEFORE};
	register_callback(info->base_name, PLUGIN_PASS_MANAGER_SETUP, NULL, &pass);
	return 0;
}
