/* The ROM of the machine that tools/bochs/machine.py makes, in place of a BIOS and a boot loader: 64 KiB below the first
 * megabyte, where the processor begins. It enters protected mode, reads the first disk into memory and enters what lies
 * there by the 32-bit boot protocol of Linux (Documentation/arch/x86/boot.rst): flat segments 0x10 and 0x18, esi at the
 * parameters, interrupts off. Linux needs no more of the firmware: it finds the processor, the timers and the serial line
 * by itself.
 *
 * The assembler's command line defines LOAD, where the disk goes (it begins with the parameters), SECTORS, how many to
 * read (a multiple of 256), and ENTRY, where the kernel lies then. */
#define DISK 0x1f0 /* the ports of the first ATA channel */
#define BUSY 0x80
#define DATA 0x08

    .code16
reset:
    cli
    lgdtl %cs:(segments_pointer - reset)
    mov $1, %eax
    mov %eax, %cr0
    ljmpl $0x10, $protected

    .code32
protected:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    cld
    mov $LOAD, %edi
    xor %ebx, %ebx              /* the sector to read next */

read_sectors:                   /* 256 with one command: count 0, address in four bytes, command */
    mov $DISK + 2, %edx
    xor %eax, %eax
    out %al, %dx
    mov %ebx, %eax
    inc %edx
    out %al, %dx
    shr $8, %eax
    inc %edx
    out %al, %dx
    shr $8, %eax
    inc %edx
    out %al, %dx
    mov $0xe0, %al              /* by sector number, first disk */
    inc %edx
    out %al, %dx
    mov $0x20, %al              /* READ SECTORS */
    inc %edx
    out %al, %dx
    mov $256, %esi
read_sector:
    mov $DISK + 7, %edx
    in %dx, %al
    and $BUSY | DATA, %al
    cmp $DATA, %al
    jne read_sector
    mov $DISK, %edx
    mov $256, %ecx
    rep insw
    dec %esi
    jnz read_sector
    add $256, %ebx
    cmp $SECTORS, %ebx
    jb read_sectors

    mov $LOAD, %esi
    xor %ebp, %ebp
    xor %edi, %edi
    xor %ebx, %ebx
    mov $ENTRY, %eax
    jmp *%eax

segments:
    .quad 0, 0
    .quad 0x00cf9b000000ffff    /* 0x10: code, 4 GiB */
    .quad 0x00cf93000000ffff    /* 0x18: data, 4 GiB */
segments_pointer:
    .word segments_pointer - segments - 1
    .long segments

    .org 0xfff0                 /* where the processor begins */
    .code16
    ljmp $0xf000, $0
    .org 0x10000
